"""Loads batches of a data set, shuffled or balanced, reproducible by seed and epoch."""

import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from datasets.store.images import ImageDataset
from datasets.store.packing import cores, processes_here

MOST_WORKERS = 4  # reading a slice of BraTS takes 0.4 ms: more would wait
SEEDS = 2**32  # numpy takes as many
EPOCH_SEEDS = 100_003  # seeds of neighbouring runs must not share the seeds of their epochs


class BalancedSampler(WeightedRandomSampler):
    """Draws every class equally often, with replacement; what an epoch draws follows from the seed and the epoch."""

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
    """A loader of whole batches; a set too large for memory is read by worker processes, which share the cores with
    those of other processes of this training. `Accelerator.prepare` then leaves each process its share of every batch.

    `sampling` (see `Recipe`) and `seed` are those of training.
    """
    # A last training batch of one image has no variance for batch norm: it waits for the next shuffle.
    single = training and len(data) % batch_size == 1
    workers = 0 if data.in_memory else min(MOST_WORKERS, max(1, cores() // processes_here()))
    order = {"shuffle": training}
    if training and sampling == "balanced":
        order = {"sampler": BalancedSampler(data.labels, seed)}
    return DataLoader(data, batch_size, drop_last=single, collate_fn=data.collate, num_workers=workers, **order)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything that is random in an epoch, at most what numpy takes."""
    return (seed * EPOCH_SEEDS + epoch) % SEEDS
