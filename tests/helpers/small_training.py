"""A short training of a classifier on a few phantom images."""

import torch

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils.recipes import get_recipe
from utils.training.loop import fit
from utils.training.tasks import Classification

TRAIN = """
import sys, torch
sys.path.insert(0, {helpers!r})
from small_training import run_fit
model, _ = run_fit({folder!r}, epochs=4)
torch.save(model.state_dict(), {folder!r} + "/end.pt")
"""


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
