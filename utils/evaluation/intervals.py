"""Draws 95 % CIs by resampling whole groups, since slices of one patient are not independent."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import binomtest, bootstrap

ENOUGH = 0.5  # share of the draws that must give a value: of fewer no interval is reported


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
    groups: Sequence,
    statistic: Callable[[np.ndarray], dict[str, float]],
    resamples: int = 1000,
    seed: int = 0,
    *,
    trials: Mapping[str, int] | None = None,
    strata: Sequence | None = None,
) -> dict[str, dict[str, float | None]]:
    """Values by name with 95 % percentile intervals when whole groups are drawn with replacement.

    Args:
        groups: group of each of N rows. One group alone has no spread: its intervals are None.
        statistic: rows, with repetition → values by name, always the same names; NaN where those rows give none. The
            interval is that of the draws with a value, None where these are fewer than `ENOUGH` of them, and where it
            misses the value: then resampling moves the value further than it spreads it.
        trials: name → in how many groups a value is counted that is a share; its limits are those of `of_share`.
        strata: stratum of each row, such as its fold: groups are drawn within each, as many as it has.

    Returns:
        name → {value, low, high}, of all rows; None for what cannot be computed, since JSON has no NaN.
    """
    groups = np.asarray(groups)
    strata = np.zeros(len(groups)) if strata is None else np.asarray(strata)
    rows = [_by_group(groups, np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    with one_thread():
        values = statistic(np.arange(len(groups)))
        low, high = _bounds(rows, lambda drawn: np.array(list(statistic(drawn).values())), len(values), resamples, seed)
    found = {}
    for (name, value), *limits in zip(values.items(), low, high, strict=True):
        value, lo, hi = map(number, (value, *limits))
        inside = None not in (value, lo, hi) and lo <= value <= hi
        found[name] = {"value": value, "low": lo, "high": hi} if inside else without_limits(value)
    return found | {name: of_share(found[name], count) for name, count in (trials or {}).items() if name in found}


def _by_group(groups: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """`rows`, an array a group."""
    _, member = np.unique(groups[rows], return_inverse=True)
    return np.split(rows[np.argsort(member, kind="stable")], np.cumsum(np.bincount(member))[:-1])


def _bounds(
    rows: list[list[np.ndarray]], statistic: Callable[[np.ndarray], np.ndarray], size: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each of the `size` values when the groups of each stratum of `rows` are drawn."""
    if min(map(len, rows)) < 2:
        return np.full(size, np.nan), np.full(size, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy and torchmetrics warn of draws without spread, or without a class
        drawn = bootstrap(
            [np.arange(len(stratum)) for stratum in rows],
            lambda *chosen: statistic(np.concatenate([s[g] for s, c in zip(rows, chosen, strict=True) for g in c])),
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        # A draw without one of the classes has no AUC for it; such draws are left out of that metric's interval.
        limits = np.nanquantile(drawn, (0.025, 0.975), axis=-1)
    low, high = np.where(np.isfinite(drawn).mean(axis=-1) < ENOUGH, np.nan, limits)
    return low, high


def of_share(entry: dict[str, float | None], groups: int) -> dict[str, float | None]:
    """A share {value, low, high} that is counted in so many groups, with limits where no draw differs from its value.

    Where all groups succeed, or none does, all draws say the same of 7 groups as of 700. The limits are then the exact
    ones of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404) with the group as the trial: 7 successes of 7 give
    59–100 %. One group in which some images are right and some wrong has no spread: None. So has no group at all.
    """
    value = entry["value"]
    if value is None or entry["low"] != entry["high"]:
        return entry
    if value in (0, 1) and groups:
        exact = binomtest(int(value) * groups, groups).proportion_ci(0.95, method="exact")
        return {"value": value, "low": number(exact.low), "high": number(exact.high)}
    return entry if groups > 1 else without_limits(value)


def without_limits(value: float | None) -> dict[str, float | None]:
    """A value of which no interval can be reported."""
    return {"value": value, "low": None, "high": None}


def mean_interval(
    values: Sequence, groups: Sequence, resamples: int = 1000, seed: int = 0, share: bool | None = None
) -> dict:
    """{value, low, high} of the mean of `values`, with a 95 % interval over `groups`.

    Given "right with a change" minus "right without" for each image, it is the gain by that change.

    Args:
        share: whether the mean is a share, whose limits at 0 and 1 are exact (`of_share`); None: where `values` are
            truth values.
    """
    values = np.asarray(values)
    share = values.dtype == bool if share is None else share
    values = values.astype(float)
    _, member = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(member, values), np.bincount(member)  # a group is one row: drawn a thousand times faster
    of_groups = np.arange(len(sizes))
    found = grouped_bootstrap_ci(
        of_groups, lambda rows: {"mean": sums[rows].sum() / sizes[rows].sum()}, resamples, seed
    )["mean"] | {"value": number(values.mean())}
    return of_share(found, len(sizes)) if share else found


def groups_with(groups: Sequence, rows: np.ndarray) -> int:
    """In how many groups at least one of `rows`, N truth values, is marked."""
    return len(np.unique(np.asarray(groups)[rows]))


def number(value: float) -> float | None:
    """Rounded, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else round(float(value), 6)
