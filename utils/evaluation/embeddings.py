"""Represents images by pixels or features, maps them as S0 did (UMAP), and lists the outliers."""

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors

from datasets.store.images import ImageDataset, scaled
from utils.evaluation.shift import NEIGHBOURS


def pixel_features(data: ImageDataset) -> np.ndarray:
    """Grey values of each image of `data`, N×(S·S), in [0, 1]."""
    return scaled(data.batch(range(len(data)))["image"]).flatten(1).numpy()


def umap_of(val: np.ndarray, test: np.ndarray, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """S0's map, fitted on validation, test projected into it: N×2 and M×2.

    UMAP (McInnes et al. 2018, arXiv:1802.03426) with S0's values: 2 dimensions, 15 neighbours, min_dist .1, Euclidean,
    seed 42.
    """
    from umap import UMAP  # its import compiles for seconds, which only a map needs

    reducer = UMAP(
        n_neighbors=min(NEIGHBOURS, len(val) - 1), min_dist=0.1, metric="euclidean", random_state=seed, n_jobs=1
    )
    threads = torch.get_num_threads()
    try:
        return reducer.fit_transform(val), reducer.transform(test)
    finally:
        # Numba sets OpenMP, and so torch, to all cores; beside other work the rest became 20 times as slow.
        torch.set_num_threads(threads)


def outliers(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    label: str = "glioma",
    top: int = 20,
) -> pd.DataFrame:
    """S0's list: test images of `label` by distance to the centroid of the training images of `label`, farthest first.

    Returns:
        `test` (row of `test`), `distance`, and `nearest` (row of `train`), the nearest training image of another
        label, with its `nearest_label` and `nearest_distance`.
    """
    rows = np.flatnonzero(test_labels == label)
    distance = np.linalg.norm(test[rows] - train[train_labels == label].mean(0), axis=1)
    order = np.argsort(-distance, kind="stable")[:top]
    others = np.flatnonzero(train_labels != label)
    away, near = NearestNeighbors(n_neighbors=1).fit(train[others]).kneighbors(test[rows[order]])
    nearest = others[near[:, 0]]
    return pd.DataFrame(
        {
            "test": rows[order],
            "distance": distance[order],
            "nearest": nearest,
            "nearest_label": train_labels[nearest],
            "nearest_distance": away[:, 0],
        }
    )
