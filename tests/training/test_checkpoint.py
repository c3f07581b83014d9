"""Checkpoints: whose they are. One that belongs to other data, another split, model or start is never taken up."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store import images
from datasets.store.images import ImageDataset
from models import SEGMENTERS, CustomCNN
from utils.evaluation.mask_predictions import mask_table, predict_masks
from utils.evaluation.search import on_validation, search
from utils.evaluation.segmentation import evaluate_masks
from utils.recipes import get_recipe
from utils.report.records import save_run
from utils.run import Run
from utils.training.data import load_data
from utils.training.loop import fit, make_accelerator
from utils.training.resume import TrainingPaused
from utils.training.tasks import Classification, Segmentation

# ---- the reader's own data, brought in by download.py ---------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Empty data and output roots; returns the folder of both."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    return tmp_path


def bring(folder, seed, patient_of=lambda i: i // 2):
    """Write a folder of 24 images with a bright disc as tumour, and bring it in as `own`."""
    rng, lines = np.random.default_rng(seed), ["image,mask,patient"]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:80, :80]
    for i in range(24):
        image = rng.integers(60, 160, (80, 80)).astype(np.uint8)
        mask = (y - rng.integers(25, 55)) ** 2 + (x - rng.integers(25, 55)) ** 2 < 100
        Image.fromarray(np.where(mask, 230, image).astype(np.uint8)).save(folder / f"images/{i:02}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / f"masks/{i:02}.png")
        lines.append(f"images/{i:02}.png,masks/{i:02}.png,p{patient_of(i):02}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    assert download.main(["own", "--folder", str(folder), "--size", "32", "--workers", "1"]) == 0


def train_own(**words):
    """What the chapter on segmentation does with `own`: the run, its data, network, task and training."""
    run = Run(dataset="own", split="patient", model="ClassicUNet", recipe="ours", image_size=32, n_filters=2)
    recipe = get_recipe("ours", "ClassicUNet", epochs=2, batch_size=8)
    torch.manual_seed(0)
    net = SEGMENTERS["ClassicUNet"](in_channels=1, out_channels=1, n_filters=2)
    task, data = Segmentation(1, recipe.loss), load_data(run)
    return run, data, net, task, fit(net, task, data.train, data.val, recipe, folder=run.folder, **words)


def test_a_checkpoint_is_not_taken_up_for_another_folder(place):
    bring(place / "A", seed=0)
    _, _, net, _, trained = train_own()
    bring(place / "B", seed=1)
    with pytest.raises(
        DataError, match=r"checkpoint\.pt: belongs to another training .*images\.h5: \w+ → \w+"
    ) as refused:
        train_own()
    assert "\n" not in str(refused.value)
    bring(place / "A", seed=0)
    _, _, again, _, found = train_own()
    assert found.history.equals(trained.history), "with the first folder back it is this training's again"
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_checkpoint_is_not_taken_up_once_patients_were_corrected(place):
    """The same images: only who they belong to has changed, and with it who is tested."""
    bring(place / "A", seed=0)
    with pytest.raises(TrainingPaused):
        train_own(time_budget=0)
    bring(place / "A", seed=0, patient_of=lambda i: i % 12)
    with pytest.raises(DataError, match=r"manifest\.csv: \w+ → \w+.*train rows: \w+ → \w+.*test images: \w+ → \w+"):
        train_own()


def test_data_changed_between_training_and_record_is_told_apart(place):
    bring(place / "A", seed=0)
    run, data, net, task, trained = train_own()
    table = mask_table("own", data.test.rows, data.split.test_groups, predict_masks(net, task, data.test))
    result = evaluate_masks(table, catalog.get("own").mask_channels, [], 20)
    left = {"model": net, "recipe": get_recipe("ours", "ClassicUNet"), "fit": trained}
    bring(place / "B", seed=1)
    with pytest.raises(DataError, match="'own' has changed since it was trained on"):
        save_run(run, result, table, **left)
    assert not run.metrics_folder.exists()
    bring(place / "A", seed=0)
    kept = json.loads(save_run(run, result, table, **left).read_text())["data"]
    assert kept["images.h5"] == trained.data["images.h5"] and kept["manifest.csv"] == trained.data["manifest.csv"]


def test_images_replaced_after_they_were_opened_are_not_read(place):
    bring(place / "A", seed=0)
    rows = {"image_size": 32, "masks": True}
    kept, read = (ImageDataset("own", range(8), in_memory=memory, **rows) for memory in (True, False))
    bring(place / "B", seed=1)
    with pytest.raises(DataError, match=r"images\.h5: replaced since it was opened"):
        kept.identity()
    with pytest.raises(DataError, match=r"images\.h5: replaced since it was opened"):
        read.batch([0])


# ---- everything else that a training depends on ---------------------------------------------------------------------


def train(folder, *, start=0, train_rows=slice(0, 24), val_rows=slice(0, 8), size=64, view="stored", **words):
    """One epoch of CustomCNN on the small phantom."""
    split = make_split("phantom", "patient")
    rows = (split.train[train_rows], split.val[val_rows])
    parts = (ImageDataset("phantom", r, image_size=size, view=view, part_of=words.pop("part_of", {})) for r in rows)
    torch.manual_seed(start)
    model = words.pop("model", None) or CustomCNN(image_size=size)
    AcceleratorState._reset_state(reset_partial_state=True)  # its precision is the process's, and cannot be changed
    accelerator = make_accelerator(words.pop("precision", "no"))
    how = get_recipe("s2", "CustomCNN", epochs=1, batch_size=8)
    task = words.pop("task", None) or Classification(4)
    return model, fit(model, task, *parts, how, folder=folder, accelerator=accelerator, **words)


OTHER = {
    "train rows": ({"train_rows": slice(1, 25)}, r"train rows: \w+ → \w+"),
    "their order": ({"train_rows": slice(23, None, -1)}, r"train rows: \w+ → \w+"),
    "val rows": ({"val_rows": slice(1, 9)}, r"val rows: \w+ → \w+"),
    "size": ({"size": 128}, r"image_size: 64 → 128"),
    "view": ({"view": "levelled"}, r"view: stored → levelled"),
    "turned back": ({"view": "upright"}, r"view: stored → upright"),
    "run": ({"part_of": {"run": "another"}}, r"run: None → another"),
    "seed": ({"seed": 1}, r"seed: 0 → 1"),
    "precision": ({"precision": "bf16"}, r"precision: no → bf16"),
    "task": ({"task": type("Other", (Classification,), {})(4)}, r"task: Classification → Other"),
    "classes": (
        {"model": CustomCNN(num_classes=5, image_size=64)},
        r"model: CustomCNN of [\d,]+ parameters → CustomCNN",
    ),
    "start": ({"start": 1}, r"starting weights: others in .*weight"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_checkpoint_is_not_taken_up_by_another_training(roots, what):
    train(roots / "run")
    words, message = OTHER[what]
    with pytest.raises(DataError, match=message):
        train(roots / "run", **words)


def test_a_changed_table_of_turns_is_another_training(roots, monkeypatch):
    """The view "upright" depends on a committed table, which neither manifest nor store knows."""
    train(roots / "run", view="upright")
    monkeypatch.setattr(images, "turns", lambda name, manifest: np.full(len(manifest), "transposed"))
    with pytest.raises(DataError, match=r"\(train turns: \w+ → \w+"):
        train(roots / "run", view="upright")


def test_one_changed_weight_is_another_start_and_rounding_is_not(roots):
    model = CustomCNN(image_size=64)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(roots / "run", model=model)
    rounded, other = CustomCNN(image_size=64), CustomCNN(image_size=64)
    for net in (rounded, other):
        net.load_state_dict(first)
    with torch.no_grad():
        for weights in rounded.parameters():  # as another processor draws them
            weights.mul_(1 + 1e-7 * torch.randn_like(weights))
        next(other.parameters())[0, 0, 0, 0] += 1
    train(roots / "run", model=rounded)
    with pytest.raises(DataError, match="starting weights: others in"):
        train(roots / "run", model=other)


def test_a_network_that_was_interrupted_is_still_the_one_it_began_as(roots):
    """A reader stops the cell and runs it again: by then the network has been trained in part."""
    model, first = train(roots / "run")
    again, second = train(roots / "run", model=model)
    assert again is model and second.history.equals(first.history)


def test_a_checkpoint_of_an_older_version_does_not_say_whose_it_is_and_is_refused(roots):
    train(roots / "run")
    path = roots / "run/checkpoint.pt"
    state = torch.load(path)
    del state["identity"]
    torch.save({"settings": {"lr": "0.0001", "seed": "0"}} | state, path)
    with pytest.raises(DataError, match=r"checkpoint\.pt: .*made by an older version\); delete .*run to start again"):
        train(roots / "run")


def test_a_run_says_which_images_it_is_tested_on(roots):
    first, other = (load_data(Run(dataset="phantom", split="patient", fold=fold, image_size=64)) for fold in (0, 1))
    whose = first.train.identity()
    assert whose["run"] == first.run.id and whose["test images"] != other.train.identity()["test images"]
    assert whose["test images"] == first.val.identity()["test images"]


def test_a_search_is_not_taken_up_for_other_images(roots):
    split = make_split("phantom", "patient")
    recipe = get_recipe("s2", "CustomCNN", epochs=1, batch_size=8)

    def judge(rows):
        parts = (ImageDataset("phantom", r, image_size=64) for r in (rows, split.val[:8]))
        return on_validation(lambda: CustomCNN(image_size=64), Classification(4), *parts, recipe, 0)

    class OnlyRate:  # CustomCNN has no backbone to unfreeze
        def __init__(self, judge):
            self.judge, self.identity = judge, judge.identity

        def __call__(self, changes, folder):
            return self.judge({"lr": changes["lr"]}, folder)

    table = search(OnlyRate(judge(split.train[:24])), 1, roots / "search")
    assert search(OnlyRate(judge(split.train[:24])), 1, roots / "search").equals(table)
    with pytest.raises(DataError, match=r"search\.journal: .*train rows: \w+ → \w+.* Delete .*search to search anew"):
        search(OnlyRate(judge(split.train[1:25])), 1, roots / "search")
