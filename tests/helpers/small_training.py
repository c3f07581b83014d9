"""A short training of a classifier on a few phantom images, in this process or, as a program, in another."""

import sys
from pathlib import Path

import torch

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils.recipes import get_recipe
from utils.training.loop import fit
from utils.training.tasks import Classification


def program(folder: Path, epochs: int = 4) -> list[str]:
    """The command after Python's that trains in another process, and leaves the weights as `end.pt` in `folder`."""
    return [__file__, str(folder), str(epochs)]


def run_fit(folder, epochs=2, seed=0, **options):
    """Train CustomCNN at 64 pixels, or a `model`, on a few phantom images, or on `parts` (train, val)."""
    changes = {k: options.pop(k) for k in ("lr", "select", "schedule", "accumulate") if k in options}
    torch.manual_seed(seed)
    split = make_split("phantom", "patient")
    own = (ImageDataset("phantom", rows[:32], image_size=64) for rows in (split.train, split.val))
    train, val = options.pop("parts", own)
    model = options.pop("model", None) or CustomCNN(image_size=64)
    recipe = get_recipe("s2", "CustomCNN", epochs=epochs, batch_size=options.pop("batch_size", 8), **changes)
    task = options.pop("task", None) or Classification(4, 3, recipe.augmentation)
    return model, fit(model, task, train, val, recipe, folder=folder, seed=seed, **options)


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
