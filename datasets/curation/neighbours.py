"""Predicts labels by the nearest neighbour on thumbnails, the most similar training image; nothing is learned."""

from collections.abc import Iterator

import numpy as np
import torch

from datasets.curation.thumbnails import Thumbnails
from datasets.splitting import FOLDS, Split, make_split

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
    pixels = thumbnails.turned("upright")  # of unit length: the nearest is the most correlated
    labels = thumbnails.table.label.to_numpy()
    for fold in range(FOLDS) if protocol == "patient" else (0,):
        split = make_split(name, protocol, fold)
        known = torch.from_numpy(pixels[split.train_val]).T.contiguous()
        blocks = torch.from_numpy(pixels[split.test]).split(BLOCK)  # bounds the memory: BLOCK × training images
        nearest = torch.cat([(block @ known).argmax(1) for block in blocks])
        yield split, labels[split.train_val][nearest.numpy()]


def accuracy(thumbnails: Thumbnails, protocol: str) -> float:
    """Share of the test images whose nearest training image has their label."""
    labels = thumbnails.table.label.to_numpy()
    return float(
        np.concatenate([labels[split.test] == found for split, found in nearest_labels(thumbnails, protocol)]).mean()
    )
