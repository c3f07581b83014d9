"""Predicts labels by the nearest neighbour on thumbnails, the most similar training image; nothing is learned."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from datasets import catalog
from datasets.curation.thumbnails import Thumbnails
from datasets.splitting import DRAWN, Split, make_split

BLOCK = 512


def nearest_labels(thumbnails: Thumbnails, protocol: str) -> Iterator[tuple[Split, np.ndarray]]:
    """The label of the most correlated training image, for each test image of a protocol.

    Args:
        thumbnails: of one whole data set, in manifest order, as the publisher framed them.
        protocol: "published", "random", or "patient" for the five folds one after the other.

    Yields:
        each split, and the labels in the order of its test rows.
    """
    name = thumbnails.table.dataset.iloc[0]
    for fold in range(catalog.get(name).folds) if protocol == "patient" else (0,):
        split = make_split(name, protocol, fold)
        yield split, _nearest(thumbnails, split.train_val, split.test)


def _nearest(thumbnails: Thumbnails, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The label of the training row that is most correlated, for each of the rows `test`."""
    pixels = thumbnails.turned("upright")  # of unit length: the nearest is the most correlated
    known = torch.from_numpy(pixels[train]).T.contiguous()
    blocks = torch.from_numpy(pixels[test]).split(BLOCK)  # bounds the memory: BLOCK × training images
    nearest = torch.cat([(block @ known).argmax(1) for block in blocks])
    return thumbnails.table.label.to_numpy()[train][nearest.numpy()]


def accuracy(thumbnails: Thumbnails, table: pd.DataFrame, protocol: str) -> float:
    """Share of the test images whose nearest training image has their label.

    Args:
        table: the split table of these images, which need not be committed yet; protocol: as in `nearest_labels`.
    """
    labels, right = thumbnails.table.label.to_numpy(), []
    for is_test in _test_sets(table, protocol):
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        right.append(labels[test] == _nearest(thumbnails, train, test))
    return float(np.concatenate(right).mean())


def _test_sets(table: pd.DataFrame, protocol: str) -> Iterator[np.ndarray]:
    """Whether each row is tested, as `make_split` has it: of "patient" for one fold after the other."""
    if protocol == "patient":
        yield from (table.fold.eq(fold).to_numpy() for fold in sorted(table.fold.unique()))
    elif protocol == "published":
        yield table.published_split.eq("test").to_numpy()
    else:
        yield np.random.default_rng(0).permutation(len(table)) < len(table) * DRAWN[protocol]
