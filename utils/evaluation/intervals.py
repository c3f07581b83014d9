"""Draws 95 % CIs by resampling whole groups, since slices of one patient are not independent."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import bootstrap


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread within the block: sharing thousands of tiny tensor operations made them 8 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def grouped_bootstrap_ci(
    groups: Sequence, statistic: Callable[[np.ndarray], dict[str, float]], resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Values by name with 95 % percentile intervals when whole groups are drawn with replacement.

    Args:
        groups: group of each of N rows. One group alone has no spread: its intervals are None.
        statistic: rows, with repetition → values by name, always the same names; NaN where those rows give none.

    Returns:
        name → {value, low, high}, of all rows; None for what cannot be computed, since JSON has no NaN.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    with one_thread():
        values = statistic(np.arange(len(member)))
        low, high = _bounds(rows, lambda drawn: np.array(list(statistic(drawn).values())), len(values), resamples, seed)
    return {
        name: {"value": number(value), "low": number(lo), "high": number(hi)}
        for (name, value), lo, hi in zip(values.items(), low, high, strict=True)
    }


def _bounds(
    rows: list[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray], size: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each of the `size` values when the groups of `rows` are drawn."""
    if len(rows) < 2:
        return np.full(size, np.nan), np.full(size, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy and torchmetrics warn of draws without spread, or without a class
        drawn = bootstrap(
            (np.arange(len(rows)),),
            lambda chosen: statistic(np.concatenate([rows[g] for g in chosen])),
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        # A draw without one of the classes has no AUC for it; such draws are left out of that metric's interval.
        low, high = np.nanquantile(drawn, (0.025, 0.975), axis=-1)
    return low, high


def mean_interval(values: Sequence, groups: Sequence, resamples: int = 1000, seed: int = 0) -> dict:
    """{value, low, high} of the mean of `values`, with a 95 % interval over `groups`.

    Given "right with a change" minus "right without" for each image, it is the gain by that change.
    """
    values = np.asarray(values, dtype=float)
    _, member = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(member, values), np.bincount(member)  # a group is one row: drawn a thousand times faster
    of_groups = np.arange(len(sizes))
    found = grouped_bootstrap_ci(
        of_groups, lambda rows: {"mean": sums[rows].sum() / sizes[rows].sum()}, resamples, seed
    )
    return found["mean"] | {"value": number(values.mean())}


def number(value: float) -> float | None:
    """Rounded, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else round(float(value), 6)
