"""Reads the images of a run, its training, validation and test set, and loads them in batches by seed and epoch."""

from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from datasets import catalog
from datasets.labels import classes_of, external_target, united, viewed
from datasets.splitting import Split, make_split
from datasets.store.images import ImageDataset, mask_channels
from datasets.store.index import read_manifest, same_crop, short_digest
from datasets.store.packing import cores, processes_here
from utils.run import SEEDS, Run
from utils.training.tasks import TASKS

MOST_WORKERS = 4  # reading a slice of BraTS takes 0.4 ms: more would wait
EPOCH_SEEDS = 100_003  # seeds of neighbouring runs must not share the seeds of their epochs


class RunData:
    """Split and images of a run; each set is read when it is first used.

    Attributes:
        facts: catalogue entry of the data set; split: rows of train, validation and test; sizes: their numbers.
        classes: what a model is trained to tell apart; test_classes: what it is asked on the test set, other classes
            only where an external set says no more than tumour or none; test_target: key of `labels.TARGETS` for that.
        train, val, test: `ImageDataset`s at the run's size and view; train_val: the first two together.
        labels: of the images of each set, by name.
    """

    def __init__(self, run: Run, split: Split):
        self.run, self.split, self.facts = run, split, catalog.get(run.dataset)
        self.classes = classes_of(run.dataset, run.target)
        self.test_target = external_target(run.dataset, split.test_set, run.target)
        self.test_classes = self.classes if self.test_target == run.target else classes_of(run.dataset, "tumour")
        self.sizes = {name: len(getattr(split, name)) for name in ("train", "val", "test")}

    def read(self, rows: np.ndarray, dataset: str = "", **changes: object) -> ImageDataset:
        """Some rows of the run's data set (or of `dataset`), read at the run's size and view, with `changes`."""
        run, task, name = self.run, TASKS[self.run.task], dataset or self.run.dataset
        settings = {"image_size": run.image_size, "classes": self.classes, "target": run.target, "view": run.view}
        settings |= {"channels": task.channels, "masks": task.masks and bool(mask_channels(name))}
        # A checkpoint belongs to the run and to the images that it is tested on (`ImageDataset.identity`).
        tested = read_manifest(self.split.test_set).path.iloc[self.split.test]
        digest = short_digest("\n".join([self.split.test_set, *tested]).encode())
        settings["part_of"] = {"run": run.id, "test images": digest}
        return ImageDataset(name, rows, **settings | changes)

    train = cached_property(lambda self: self.read(self.split.train))
    val = cached_property(lambda self: self.read(self.split.val))
    train_val = cached_property(lambda self: self.read(self.split.train_val))

    @cached_property
    def test(self) -> ImageDataset:
        return self.read(self.split.test, self.split.test_set, classes=self.test_classes, target=self.test_target)

    def asked(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities N×K of `classes` as those of `test_classes`."""
        if self.test_classes == self.classes:
            return probabilities
        return united(probabilities, self.classes, self.test_target, self.test_classes)

    @cached_property
    def labels(self) -> dict[str, pd.Series]:
        own = viewed(read_manifest(self.run.dataset).label, self.run.target)
        tested = read_manifest(self.split.test_set).label.iloc[self.split.test]
        rows = {"train": own.iloc[self.split.train], "val": own.iloc[self.split.val]}
        return rows | {"test": viewed(tested, self.test_target)}


def load_data(run: Run, val_fraction: float = 0.1, val_cut: str = "group") -> RunData:
    """Split and images of `run`; `val_fraction` and `val_cut` of the training set as in its recipe.

    Raises `DataError`: a data set that is not here, a protocol that it does not have, a task that it does not fit, an
    external set that was cropped by another rule, or a split whose sets share groups (see `make_split`).
    """
    TASKS[run.task].require(run.dataset, run.target)
    how = {"test_on": run.test_on, "target": run.target, "selection": run.selection, "seed": run.seed}
    split = make_split(run.dataset, run.split, run.fold or 0, val_fraction=val_fraction, val_cut=val_cut, **how)
    if split.test_set != run.dataset:
        same_crop(run.dataset, split.test_set)
    return RunData(run, split)


def strata(data: ImageDataset) -> torch.Tensor:
    """What a balanced epoch draws equally often, a number an image: the classes, of a joined set those of each source
    apart, so that the source of an image says nothing about its class."""
    table = read_manifest(data.facts.name).iloc[data.rows]
    if "source" not in table:
        return data.labels
    return torch.from_numpy(data.labels.numpy() + len(data.classes) * pd.factorize(table.source)[0])


class BalancedSampler(WeightedRandomSampler):
    """Draws each label (or stratum) equally often, with replacement; an epoch's draws follow from seed and epoch."""

    def __init__(self, labels: torch.Tensor, seed: int):
        weights = 1 / torch.bincount(labels).double()[labels]
        super().__init__(weights, len(labels), generator=torch.Generator())
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader before each epoch."""
        self.generator.manual_seed(epoch_seed(self.seed, epoch))


def make_loader(
    data: ImageDataset, batch_size: int, training: bool = False, sampling: str = "shuffled", seed: int = 0
) -> DataLoader:
    """A loader of whole batches; `sampling` (see `Recipe`) and `seed` are those of training.

    A set too large for memory is read by worker processes, which share the cores with those of other processes.
    `Accelerator.prepare` then leaves each process its share of every batch.
    """
    # A last training batch of one image has no variance for batch norm: it waits for the next shuffle.
    single = training and len(data) % batch_size == 1
    workers = 0 if data.in_memory else min(MOST_WORKERS, max(1, cores() // processes_here()))
    balanced = training and sampling == "balanced"
    order = {"sampler": BalancedSampler(strata(data), seed)} if balanced else {"shuffle": training}
    return DataLoader(data, batch_size, drop_last=single, collate_fn=data.collate, num_workers=workers, **order)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything that is random in an epoch, at most what numpy takes."""
    return (seed * EPOCH_SEEDS + epoch) % SEEDS
