"""Short trainings on a few phantom images, in this process or, of a classifier and as a program, in another."""

import sys
from pathlib import Path

import torch

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN, MultiTaskUNet, build_backbone
from utils.recipes import get_recipe
from utils.training.callbacks import GradientWatch
from utils.training.loop import fit
from utils.training.tasks import Classification, MultiTask

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
HEALTHY = 2


def program(folder: Path, epochs: int = 4) -> list[str]:
    """The command after Python's that trains in another process, and leaves the weights as `end.pt` in `folder`."""
    return [__file__, str(folder), str(epochs)]


def run_fit(folder, epochs=2, seed=0, **options):
    """Train CustomCNN at 64 pixels, or a `model`, on a few phantom images, or on `parts` (train, val)."""
    changes = {k: options.pop(k) for k in ("lr", "select", "schedule") if k in options}
    torch.manual_seed(seed)
    split = make_split("phantom", "patient")
    own = (ImageDataset("phantom", rows[:32], image_size=64) for rows in (split.train, split.val))
    train, val = options.pop("parts", own)
    model = options.pop("model", None) or CustomCNN(image_size=64)
    recipe = get_recipe("s2", "CustomCNN", epochs=epochs, batch_size=options.pop("batch_size", 8), **changes)
    task = options.pop("task", None) or Classification(4, 3, recipe.augmentation)
    return model, fit(model, task, train, val, recipe, folder=folder, seed=seed, **options)


def fine_tune(parts, folder, name="MobileNetV3-Large", recipe="ours", **changes):
    """Train a backbone, by default a small one with batch norms; its weights before stand beside it."""
    recipe = get_recipe(recipe, name, **{"epochs": 1, "batch_size": 16, "warmup": 0} | changes)
    torch.manual_seed(0)
    net = build_backbone(name, image_size=64, **recipe.model_args)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    return net, before, fit(net, Classification(4), *parts, recipe, folder=folder)


def run_multitask(folder, balance="ema", epochs=3, **options):
    """Train a narrow multi-task network, with its losses balanced so."""
    recipe = {"ema": "s0", "kendall": "s0-kendall"}[balance]
    recipe = get_recipe(recipe, "MultiTaskUNet", epochs=epochs, batch_size=8)
    torch.manual_seed(0)
    parts = make_split("phantom", "patient")
    train, val = (ImageDataset("phantom", rows[:24], image_size=32) for rows in (parts.train, parts.val))
    net, task = MultiTaskUNet(width=2), MultiTask(4, HEALTHY, recipe.balance, recipe.augmentation)
    watch = GradientWatch(task, val.batch([0, 1, 2]))
    found = fit(net, task, train, val, recipe, folder=folder, callback=watch, **options)
    return net, task, found


def batch_of(labels, side=32, seed=0):
    """Random images of these classes, as a loader gives them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 1, side, side), generator=generator, dtype=torch.uint8)
    return {"image": images, "label": torch.tensor(labels)}


def same(a, b):
    """Whether two tables of tensors are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


if __name__ == "__main__":
    where, number = sys.argv[1:]
    try:
        trained, _ = run_fit(where, epochs=int(number))
    except DataError as error:
        sys.exit(f"refused: {error}")
    torch.save(trained.state_dict(), f"{where}/end.pt")
