"""Measures what 16 bits change besides time: `python benchmarks/precision.py`, with `brain-tumor-mri` at hand.

CustomCNN by S2's recipe, shortened, from three seeds in both precisions; accuracy is that of validation patients of
fold 0, no test image is asked. Writes `saved_metrics/benchmarks/precision.json`, which docs/performance.md shows.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from accelerate.state import AcceleratorState
from accelerate.utils import set_seed

from datasets.catalog import REPO
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils.files import write_atomically
from utils.recipes import get_recipe
from utils.training.environment import git_revision, hardware, versions
from utils.training.loop import fit, make_accelerator
from utils.training.tasks import Classification

DATASET, PIXELS, EPOCHS, SEEDS = "brain-tumor-mri", 64, 8, 3


def main() -> None:
    """Train six times and write."""
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    split, recipe = make_split(DATASET, "patient", 0), replace(get_recipe("s2", "CustomCNN"), epochs=EPOCHS)
    train, val = (ImageDataset(DATASET, rows, image_size=PIXELS) for rows in (split.train, split.val))
    found = {"data set": DATASET, "pixels": PIXELS, "epochs": EPOCHS, "trained on": len(train), "asked about": len(val)}
    for precision in ("no", "bf16"):
        fits = []
        for seed in range(SEEDS):
            AcceleratorState._reset_state()  # a process has one precision: here it changes
            accelerator = make_accelerator(precision, seed)
            set_seed(seed)
            task = Classification(len(train.classes), 3, recipe.augmentation)
            with tempfile.TemporaryDirectory() as folder:
                settings = {"folder": Path(folder), "seed": seed, "accelerator": accelerator}
                fits.append(fit(CustomCNN(image_size=PIXELS), task, train, val, recipe, **settings))
        found[precision] = {
            "accuracy of the kept epoch": [round(done.history.val_accuracy[done.epoch - 1], 4) for done in fits],
            "seconds": [round(done.seconds) for done in fits],
        }
    found |= {"hardware": hardware(), "versions": versions(), "git": git_revision()}
    path = REPO / "saved_metrics/benchmarks/precision.json"
    write_atomically(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
