"""Compares two models on the same test images: the difference, its interval, and a test that knows patients."""

# until the tables use compare: this module goes at the merge
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, permutation_test

from utils.evaluation.intervals import mean_interval


def paired_difference(
    table: pd.DataFrame, reference: pd.DataFrame, resamples: int = 1000, seed: int = 0
) -> dict | None:
    """Accuracy of one model minus that of another, image by image.

    Args:
        table, reference: the predictions of two runs with columns `path`, `label`, `predicted` and `group`.

    Returns:
        {value, low, high, p}: a 95 % interval by resampling groups, and the two-sided p of a test that exchanges the
        two models in whole groups at random (a sign-flip test): slices of one patient are not independent. None where
        the two tested different images, or were asked for different labels of them.
    """
    one, other = (t.sort_values("path") for t in (table, reference))
    if one.path.tolist() != other.path.tolist() or one.label.tolist() != other.label.tolist():
        return None
    gain = (one.label == one.predicted).to_numpy(float) - (other.label == other.predicted).to_numpy(float)
    _, member = np.unique(one.group, return_inverse=True)
    of_groups = np.bincount(member, gain)
    of_groups = of_groups[of_groups != 0]  # exchanging equals changes nothing
    p = 1.0  # of one group as well: it is as far from 0 either way
    if len(of_groups) > 1:
        p = permutation_test(
            (of_groups,),
            lambda sums, axis: sums.sum(axis=axis),
            permutation_type="samples",
            n_resamples=10 * resamples,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).pvalue
    return mean_interval(gain, one.group, resamples) | {"p": float(p)}


def corrected(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number by Benjamini and Yekutieli (2001), which holds under any dependence."""
    return false_discovery_control(p, method="by") if len(p) else np.array([])
