"""95 % intervals by resampling whole groups, since slices of one patient are not independent."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, bootstrap

ENOUGH = 0.5  # share of the draws that must give a value: of fewer no interval is reported
Interval = dict[str, float | None]  # value, low, high


def grouped_bootstrap_ci(
    groups: Sequence,
    statistic: Callable[[np.ndarray], dict[str, float]],
    resamples: int = 1000,
    *,
    trials: Mapping[str, int] | None = None,
    strata: Sequence | None = None,
) -> dict[str, Interval]:
    """Values by name with 95 % percentile intervals when whole groups are drawn with replacement.

    Args:
        groups: group of each of N rows.
        statistic: rows, with repetition → values by name, always the same names; NaN where those rows give none.
        trials: name → in how many groups a value is counted that is a share; its limits are those of `of_share`.
        strata: stratum of each row, such as its fold: groups are drawn within each, as many as it has.

    Returns:
        name → {value, low, high}; None for what cannot be computed. There is no interval of one group alone, of draws
        fewer than `ENOUGH` of which have a value, and where it misses the value, since draws moved it more than they
        spread it.
    """
    groups = np.asarray(groups)
    strata = np.zeros(len(groups)) if strata is None else np.asarray(strata)
    rows = []  # of each stratum, an array of rows a group
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        rows.append([inside[of] for of in pd.Series(inside).groupby(groups[inside]).indices.values()])

    def drawn_values(*drawn: np.ndarray) -> np.ndarray:
        chosen = [of[group] for of, draw in zip(rows, drawn, strict=True) for group in draw]
        return np.array(list(statistic(np.concatenate(chosen)).values()))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sharing thousands of tiny tensor operations made them 8 times slower
    try:
        values = statistic(np.arange(len(groups)))
        limits = np.full((2, len(values)), np.nan)
        if min(map(len, rows)) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of draws without spread, or without a class
                settings = {"method": "percentile", "vectorized": False, "rng": np.random.default_rng(0)}
                draws = bootstrap([np.arange(len(of)) for of in rows], drawn_values, n_resamples=resamples, **settings)
                drawn = draws.bootstrap_distribution
                # A draw without one of the classes has no AUC for it; it is left out of that metric's interval.
                limits = np.nanquantile(drawn, (0.025, 0.975), axis=-1)
            limits = np.where(np.isfinite(drawn).mean(axis=-1) < ENOUGH, np.nan, limits)
    finally:
        torch.set_num_threads(threads)
    found = {}
    for k, (name, value) in enumerate(values.items()):
        entry = {"value": number(value), "low": number(limits[0, k]), "high": number(limits[1, k])}
        inside = None not in entry.values() and entry["low"] <= entry["value"] <= entry["high"]
        found[name] = entry if inside else without_limits(entry["value"])
    return found | {name: of_share(found[name], count) for name, count in (trials or {}).items() if name in found}


def of_share(entry: Interval, groups: int) -> Interval:
    """A share {value, low, high} that is counted in so many groups, with limits where no draw differs from its value.

    Where all groups succeed, or none does, draws say the same of 7 groups as of 700. The limits are then the exact ones
    of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404), a group a trial: 7 of 7 give 59–100 %. One group with
    right and wrong images has no spread: None. So has no group at all.
    """
    value = entry["value"]
    if value is None or entry["low"] != entry["high"]:
        return entry
    if value in (0, 1) and groups:
        exact = binomtest(int(value) * groups, groups).proportion_ci(0.95, method="exact")
        return {"value": value, "low": number(exact.low), "high": number(exact.high)}
    return entry if groups > 1 else without_limits(value)


def without_limits(value: float | None) -> Interval:
    """A value of which no interval can be reported."""
    return {"value": value, "low": None, "high": None}


def mean_interval(values: Sequence, groups: Sequence, resamples: int = 1000, share: bool | None = None) -> Interval:
    """{value, low, high} of the mean of `values`, with a 95 % interval over `groups`.

    `share`: whether its limits at 0 and 1 are exact (`of_share`); None: where `values` are truth values."""
    values = np.asarray(values)
    share = values.dtype == bool if share is None else share
    values = values.astype(float)
    _, member = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(member, values), np.bincount(member)  # a group is one row: drawn a thousand times faster
    found = grouped_bootstrap_ci(
        np.arange(len(sizes)), lambda rows: {"mean": sums[rows].sum() / sizes[rows].sum()}, resamples
    )["mean"] | {"value": number(values.mean())}
    return of_share(found, len(sizes)) if share else found


def groups_with(groups: Sequence, rows: np.ndarray) -> int:
    """In how many groups at least one of `rows`, N truth values, is marked."""
    return len(np.unique(np.asarray(groups)[rows]))


def as_record(
    found: Mapping[str, Interval], classes: Sequence[str], of_each: dict, table: pd.DataFrame, resamples: int
) -> dict:
    """What every evaluation says: `metrics`, `per_class`, numbers of `images` and their `groups`, and `resamples`.

    `found`: METRIC → interval, of class k "k.METRIC"; `of_each`: the name of a count → its values, one a class.
    """
    per_class = {}
    for k, c in enumerate(classes):
        per_class[c] = {name.split(".")[1]: entry for name, entry in found.items() if name.startswith(f"{k}.")}
        per_class[c] |= {name: int(counts[k]) for name, counts in of_each.items()}
    metrics = {name: entry for name, entry in found.items() if "." not in name}
    sizes = {"images": len(table), "groups": int(table.group.nunique()), "resamples": resamples}
    return {"metrics": metrics, "per_class": per_class} | sizes


def number(value: float) -> float | None:
    """Rounded, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else round(float(value), 6)
