"""Reads the images of a run: its training, validation and test set, at its size and view."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import DataError
from datasets.labels import classes_of, external_target, united, viewed
from datasets.splitting import Split, make_split
from datasets.store.images import ImageDataset, mask_channels, with_masks
from datasets.store.index import read_manifest, same_crop, short_digest

if TYPE_CHECKING:
    from utils.run import Run


class RunData:
    """Split and images of a run; each set is read when it is first used.

    Attributes:
        facts: catalogue entry of the data set; split: rows of train, validation and test.
        classes: what a model is trained to tell apart; test_classes: what it is asked on the test set, other classes
            only where an external set says no more than tumour or none; test_target: key of `labels.TARGETS` for that.
        train, val, test: `ImageDataset`s at the run's size and view; train_val: the first two together.
    """

    def __init__(self, run: "Run", split: Split):
        self.run, self.split, self.facts = run, split, catalog.get(run.dataset)
        self.classes = classes_of(run.dataset, run.target)
        self.test_target = external_target(run.dataset, split.test_set, run.target)
        self.test_classes = self.classes if self.test_target == run.target else classes_of(run.dataset, "tumour")

    def read(self, rows: np.ndarray, dataset: str = "", **changes: object) -> ImageDataset:
        """Some rows of the run's data set (or of `dataset`), read at the run's size and view, with `changes`."""
        volumes = self.run.task == "segmentation"
        masks = volumes or (self.run.task == "localisation" and bool(mask_channels(dataset or self.run.dataset)))
        settings = {
            "image_size": self.run.image_size,
            "classes": self.classes,
            "target": self.run.target,
            "view": self.run.view,
            "channels": "all" if volumes else "grey",
            "masks": masks,
            "part_of": self.part_of,
        }
        return ImageDataset(dataset or self.run.dataset, rows, **settings | changes)

    @cached_property
    def part_of(self) -> dict[str, str]:
        """The run and the images it is tested on, for `ImageDataset.identity`: a checkpoint belongs to both."""
        tested = read_manifest(self.split.test_set).path.iloc[self.split.test]
        return {"run": self.run.id, "test images": short_digest("\n".join([self.split.test_set, *tested]).encode())}

    @cached_property
    def train(self) -> ImageDataset:
        return self.read(self.split.train)

    @cached_property
    def val(self) -> ImageDataset:
        return self.read(self.split.val)

    @cached_property
    def train_val(self) -> ImageDataset:
        return self.read(self.split.train_val)

    @cached_property
    def test(self) -> ImageDataset:
        asked = {"classes": self.test_classes, "target": self.test_target}
        return self.read(self.split.test, self.split.test_set, **asked)

    def asked(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities N×K of `classes` as those of `test_classes`."""
        if self.test_classes == self.classes:
            return probabilities
        return united(probabilities, self.classes, self.test_target, self.test_classes)

    @cached_property
    def labels(self) -> dict[str, pd.Series]:
        """Labels of the images of each set, by "train", "val" and "test"."""
        rows = {"train": self.split.train, "val": self.split.val}
        labels = viewed(read_manifest(self.run.dataset).label, self.run.target)
        found = {name: labels.iloc[chosen] for name, chosen in rows.items()}
        tested = read_manifest(self.split.test_set).label.iloc[self.split.test]
        return found | {"test": viewed(tested, self.test_target)}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each set."""
        return {name: len(getattr(self.split, name)) for name in ("train", "val", "test")}


def require_fit(dataset: str, task: str, target: str = "label") -> None:
    """Raise `DataError` where a data set cannot be used for a task of `Run.task`: one class alone, or no masks."""
    if task == "segmentation":
        if dataset not in with_masks():
            raise DataError(f"'{dataset}' has no masks; sets with masks: {', '.join(with_masks())}")
    elif len(classes := classes_of(dataset, target)) < 2 and target != "findings":
        raise DataError(
            f"'{dataset}' holds one class, '{classes[0]}': there is nothing to tell apart. "
            "notebooks/5_segmentation.ipynb finds tumours where there are masks"
        )


def load_data(run: "Run", val_fraction: float = 0.1) -> RunData:
    """Split and images of `run`.

    Args:
        val_fraction: share of the training set that is held out for validation, cut by group (`Recipe.val_fraction`).

    Raises:
        DataError: a data set that is not here, a protocol that it does not have, a task that it does not fit, or an
            external set that was cropped by another rule.
    """
    require_fit(run.dataset, run.task, run.target)
    split = make_split(
        run.dataset,
        run.split,
        run.fold or 0,
        test_on=run.test_on,
        target=run.target,
        val_fraction=val_fraction,
        seed=run.seed,
        selection=run.selection,
    )
    if split.test_set != run.dataset:
        same_crop(run.dataset, split.test_set)
    assert not set(split.groups[split.train]) & set(split.groups[split.val]), "validation shares no group with training"
    assert run.split != "patient" or not split.seen.any(), "no patient is on both sides"
    return RunData(run, split)
