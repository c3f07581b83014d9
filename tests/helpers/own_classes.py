"""Folders of classes for the tests of a reader's own labels, and what the chapter on classification does with them."""

from pathlib import Path

import matplotlib.pyplot as plt
from accelerate.utils import set_seed
from own_images import head
from PIL import Image

from datasets import catalog, download
from models import MODELS
from utils.evaluation.baselines import baseline
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.predict import predict
from utils.recipes import QUICK, get_recipe
from utils.report import figures
from utils.report.records import save_run
from utils.run import Run
from utils.training.data import load_data
from utils.training.loop import fit
from utils.training.tasks import Classification

ODD = ["_NORMAL T1", "Meningioma T1C+", "glioma, low grade", "Tumeur épithéliale", "脑膜瘤", "a=b", "100 %", "x'y\"z"]
ODD += [f"class {i} + T2" for i in range(44 - len(ODD))]


def own(*options: str | Path) -> int:
    return download.main(["own", *map(str, options), "--size", "64", "--workers", "1"])


def save_image(path: Path, seed: int, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(head(seed, side)).save(path)


def classes(folder: Path, names: list[str], each: int = 8) -> Path:
    for k, name in enumerate(names):
        for i in range(each):
            save_image(folder / name / f"{i}{'.png' if i % 2 else '.TIF'}", 1000 * k + i)
    return folder


def run_the_chapter(split: str = "patient", dataset: str = "own", test_on: str = "") -> dict:
    """What chapter 2 does between its parameters and its confusion matrix, for one epoch."""
    run = Run(dataset=dataset, split=split, model="CustomCNN", recipe="s2", image_size=64, quick=True, test_on=test_on)
    facts, recipe = catalog.get(dataset), get_recipe("s2", "CustomCNN", **QUICK | {"epochs": 1})
    loaded = load_data(run, recipe.val_fraction)
    small = load_data(run.baseline("1-NN"))
    assert baseline("1-NN", small.train_val, small.test).shape == (len(small.test), len(facts.classes))
    set_seed(0)
    net = MODELS["CustomCNN"](num_classes=len(facts.classes), in_channels=3, image_size=64)
    task = Classification(len(facts.classes), in_channels=3, augmentation=recipe.augmentation)
    fitted = fit(net, task, loaded.train, loaded.val, recipe, folder=run.folder, seed=0)
    parts = loaded.split
    table = prediction_table(
        parts.test_set, parts.test, parts.test_groups, facts.classes, predict(net, task, loaded.test)
    )
    result = evaluate(table, facts.classes, 20)
    save_run(run, result, table, model=net, recipe=recipe, fit=fitted, sizes=loaded.sizes)
    figures.confusion(table, facts.classes)
    plt.close("all")
    return result


# ---- folders of classes --------------------------------------------------------------------------------
