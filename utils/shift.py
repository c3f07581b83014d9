"""Whether the test part of a class is drawn as its validation part is: S0's maps, and statistics that carry the claim.

A map (UMAP) illustrates; a two-sample test and the neighbours of each picture decide.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from torch import nn

from datasets.store import PackedImages
from utils.training import make_loader

NEIGHBOURS = 15  # as many as S0's map looks at
DIMENSIONS = 20  # features are reduced to these before they are compared: a class has few test images


@torch.no_grad()
def last_features(model: nn.Module, task, data: PackedImages, batch_size: int = 64) -> np.ndarray:
    """What the last linear layer of a classifier sees of each image, N×D."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    kept: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(inputs[0].cpu()))
    model.eval()
    try:
        for batch in make_loader(data, batch_size):
            model(task.inputs(batch))
    finally:
        handle.remove()
    return torch.cat(kept).numpy()


def pixel_features(data: PackedImages) -> np.ndarray:
    """Grey values of each image of `data`, N×(S·S), in [0, 1]."""
    return data.__getitems__(range(len(data)))["image"].flatten(1).numpy().astype(np.float32) / 255


def _telling_apart(x: np.ndarray, part: np.ndarray, groups: np.ndarray) -> float:
    """Mean AUC within held-out folds; scores of different folds differ in offset and are not ranked together."""
    found = []
    for train, test in StratifiedGroupKFold(5).split(x, part, groups):
        if len(np.unique(part[train])) == 2 == len(np.unique(part[test])):
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x[train], part[train])
            found.append(roc_auc_score(part[test], model.decision_function(x[test])))
    return float(np.mean(found)) if found else np.nan


def two_sample(
    val: np.ndarray,
    test: np.ndarray,
    val_groups: Sequence[str],
    test_groups: Sequence[str],
    permutations: int = 200,
    seed: int = 0,
) -> dict[str, float]:
    """Can a linear classifier tell two samples apart? (Lopez-Paz & Oquab 2017, arXiv:1610.06545)

    Args:
        val, test: features N×D and M×D; groups: whole groups are held out together and permuted together.

    Returns:
        `auc` of held-out groups (.5: no difference), `p` the share of permutations that reach it, and the sizes.
        NaN where a sample has fewer than 5 groups.
    """
    # A patient in both parts is held out as one: else his other pictures, of the other part, would answer for him.
    # Permuted are his two halves, each as a whole.
    groups = np.concatenate([val_groups, test_groups])
    units = np.array([f"val {g}" for g in val_groups] + [f"test {g}" for g in test_groups])
    part = np.repeat([0, 1], [len(val), len(test)])
    sizes = {"val": len(val), "test": len(test)}
    if len(set(val_groups)) < 5 or len(set(test_groups)) < 5:
        return sizes | {"auc": np.nan, "p": np.nan}
    x = np.concatenate([val, test])
    x = PCA(min(DIMENSIONS, len(x) // 4, x.shape[1]), random_state=seed).fit_transform(x)
    observed, rng = _telling_apart(x, part, groups), np.random.default_rng(seed)
    names, of_unit = np.unique(units, return_inverse=True)
    unit_part = np.array([name.startswith("test ") for name in names]).astype(int)
    drawn = [_telling_apart(x, rng.permutation(unit_part)[of_unit], groups) for _ in range(permutations)]
    drawn = np.array([value for value in drawn if not np.isnan(value)])
    return sizes | {"auc": observed, "p": (1 + (drawn >= observed).sum()) / (1 + len(drawn))}


def neighbour_excess(val: np.ndarray, test: np.ndarray, k: int = NEIGHBOURS) -> float:
    """How much more often than by chance (1) the k nearest pictures of a test picture are test pictures."""
    both = np.concatenate([val, test])
    k = min(k, len(both) - 1)
    near = NearestNeighbors(n_neighbors=k + 1).fit(both).kneighbors(test)[1]
    own = np.arange(len(val), len(both))[:, None]
    from_test = ((near >= len(val)) & (near != own)).sum(1) / (near != own).sum(1)
    return float(from_test.mean() / ((len(test) - 1) / (len(both) - 1)))


def shift_table(
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
    classes: Sequence[str],
    permutations: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Validation against test, a row a class: sizes, AUC and p of `two_sample`, `neighbours` of `neighbour_excess`.

    Args:
        features, labels, groups: {"val": …, "test": …}.
    """
    rows = {}
    for c in classes:
        x = {part: features[part][labels[part] == c] for part in ("val", "test")}
        g = {part: groups[part][labels[part] == c] for part in ("val", "test")}
        if min(len(x["val"]), len(x["test"])) < 2:
            continue
        rows[c] = two_sample(x["val"], x["test"], g["val"], g["test"], permutations, seed)
        rows[c]["neighbours"] = neighbour_excess(x["val"], x["test"])
    return pd.DataFrame(rows).T


def umap_of(val: np.ndarray, test: np.ndarray, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """S0's map: fitted on validation, test projected into it; N×2 and M×2.

    S0: 2 dimensions, 15 neighbours, min_dist .1, Euclidean, seed 42.
    """
    from umap import UMAP  # compiles for seconds when imported: only who draws a map should wait

    reducer = UMAP(
        n_neighbors=min(NEIGHBOURS, len(val) - 1), min_dist=0.1, metric="euclidean", random_state=seed, n_jobs=1
    )
    threads = torch.get_num_threads()
    try:
        return reducer.fit_transform(val), reducer.transform(test)
    finally:
        # Numba sets OpenMP, and so torch, to all cores: next to other work what follows became 20 times as slow.
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
