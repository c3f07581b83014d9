"""Classes, random batches and a short training for the tests of the multi-task network."""

import torch

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import MultiTaskUNet
from utils.recipes import get_recipe
from utils.training.callbacks import GradientWatch
from utils.training.loop import fit
from utils.training.tasks import MultiTask

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
HEALTHY = 2


def batch_of(labels, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 1, side, side), generator=generator, dtype=torch.uint8)
    return {"image": images, "label": torch.tensor(labels)}


def run_fit(folder, balance="ema", epochs=3, **options):
    recipe = {"ema": "s0", "kendall": "s0-kendall"}[balance]
    recipe = get_recipe(recipe, "MultiTaskUNet", epochs=epochs, batch_size=8)
    torch.manual_seed(0)
    parts = make_split("phantom", "patient")
    train, val = (ImageDataset("phantom", rows[:24], image_size=32) for rows in (parts.train, parts.val))
    net, task = MultiTaskUNet(width=2), MultiTask(4, HEALTHY, recipe.balance, recipe.augmentation)
    watch = GradientWatch(task, val.batch([0, 1, 2]))
    found = fit(net, task, train, val, recipe, folder=folder, callback=watch, **options)
    return net, task, found
