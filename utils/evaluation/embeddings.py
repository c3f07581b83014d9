"""Are the test images of a class distributed as its validation images? Features, and a two-sample test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from datasets.store.images import ImageDataset, scaled

DIMENSIONS = 20  # features are reduced to these before they are compared: a class has few test images


def pixel_features(data: ImageDataset) -> np.ndarray:
    """Grey values of each image of `data`, N×(S·S), in [0, 1]."""
    return scaled(data.batch(range(len(data)))["image"]).flatten(1).numpy()


def _separation(x: np.ndarray, part: np.ndarray, groups: np.ndarray) -> float:
    """Mean AUC within held-out folds; scores of different folds differ in offset and are not ranked together."""
    found = []
    for train, test in StratifiedGroupKFold(5).split(x, part, groups):
        if len(np.unique(part[train])) == 2 == len(np.unique(part[test])):
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x[train], part[train])
            found.append(roc_auc_score(part[test], model.decision_function(x[test])))
    return float(np.mean(found)) if found else np.nan


def two_sample(
    val: np.ndarray, test: np.ndarray, val_groups: Sequence[str], test_groups: Sequence[str], permutations: int = 200
) -> dict[str, float]:
    """Can a linear classifier tell two samples apart? (Lopez-Paz & Oquab 2017, arXiv:1610.06545)

    Features N×D and M×D; whole groups are held out and permuted. Returns the sizes (`val`, `test`), the `auc` of
    held-out groups (.5: no difference), and `p`, the share of permutations that reach it; NaN of fewer than 5 groups.
    """
    found = {"val": len(val), "test": len(test), "auc": np.nan, "p": np.nan}
    if min(len(set(val_groups)), len(set(test_groups))) < 5:
        return found
    # A patient in both samples is held out as one; otherwise images of the other sample would give the patient away.
    # In a permutation the two halves of such a patient are each moved as a whole.
    groups, part = np.concatenate([val_groups, test_groups]), np.repeat([0, 1], [len(val), len(test)])
    sides = np.where(part == 0, "val ", "test ")
    names, of_unit = np.unique(np.char.add(sides, groups.astype(str)), return_inverse=True)
    unit_part = np.char.startswith(names, "test ").astype(int)
    x = np.concatenate([val, test])
    x = PCA(min(DIMENSIONS, len(x) // 4, x.shape[1]), random_state=0).fit_transform(x)
    observed, rng = _separation(x, part, groups), np.random.default_rng(0)
    drawn = np.array([_separation(x, rng.permutation(unit_part)[of_unit], groups) for _ in range(permutations)])
    drawn = drawn[~np.isnan(drawn)]
    return found | {"auc": observed, "p": (1 + (drawn >= observed).sum()) / (1 + len(drawn))}


def shift_table(
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
    classes: Sequence[str],
    permutations: int = 200,
) -> pd.DataFrame:
    """`two_sample` of validation and test set ("val" and "test" of features, labels and groups), a row a class."""
    rows = {}
    for c in classes:
        x, g = ([of[part][labels[part] == c] for part in ("val", "test")] for of in (features, groups))
        if min(map(len, x)) > 1:
            rows[c] = two_sample(*x, *g, permutations)
    return pd.DataFrame(rows).T
