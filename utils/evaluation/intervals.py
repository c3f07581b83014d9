"""95 % intervals over whole groups, since slices of one patient are not independent.

Each group is left out once (the jackknife), and the spread of what is left gives a standard error; the interval is
Student's t, of shares on the scale of their logit. Groups differ in size, so that few may decide a value: the degrees
of freedom are those of the effective number of groups, (Σn)² / Σn² (Kish 1965), less one. Simulated from the committed
groups, limits for a single fold cover the truth in 93 to 97 % of draws, quantiles of resampled groups in less than 93 %
(`tests/evaluation/test_intervals.py`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit

SAME = 1e-12  # a difference that rounding makes
Interval = dict[str, float | None]  # value, low, high


def grouped_ci(
    groups: Sequence,
    statistic: Callable[[np.ndarray], dict[str, float]],
    resamples: int = 1000,
    *,
    trials: Mapping[str, int | None] | None = None,
) -> dict[str, Interval]:
    """Values by name with 95 % intervals over groups.

    Args:
        groups: group of each of N rows.
        statistic: rows → values by name, always the same names; NaN where those rows give none.
        resamples: of more groups, several are left out together, so that `statistic` is asked so often at most.
        trials: the names of shares → in how many groups each is counted, for its limits at 0 and 1 (`of_share`); None
            where these stay the value.

    Returns:
        name → {value, low, high}; None for what cannot be computed. There is no interval of one group alone, and none
        where a single group decides whether there is a value.
    """
    member, trials = pd.factorize(np.asarray(groups))[0] % resamples, trials or {}
    sizes = np.bincount(member)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sharing thousands of tiny tensor operations made them 8 times slower
    try:
        values = statistic(np.arange(len(member)))
        without = [statistic(np.flatnonzero(member != one)) for one in range(len(sizes) if len(sizes) > 1 else 0)]
    finally:
        torch.set_num_threads(threads)
    found = {}
    for name, value in values.items():
        found[name] = t_interval(value, [left[name] for left in without], sizes, share=name in trials)
        if trials.get(name) is not None:
            found[name] = of_share(found[name], trials[name])
    return found


def t_interval(value: float, without: Sequence[float], sizes: np.ndarray, *, share: bool) -> Interval:
    """{value, low, high} of a value and what it is without each of its groups, whose numbers of rows are `sizes`; with
    `share` on the scale of the logit. Groups that do not move the value are no evidence of it and count for nothing."""
    without, entry = np.asarray(without, float), without_limits(number(value))
    if len(without) < 2 or np.isnan([value, *without]).any():
        return entry
    error = np.sqrt(((without - without.mean()) ** 2).sum() * (len(without) - 1) / len(without))
    if error < SAME:
        return entry | {"low": entry["value"], "high": entry["value"]}
    from scipy.stats import t  # here, as below: it takes a second to import, and answers about own images need it not

    decide = sizes[np.abs(without - value) > SAME]
    half = error * t.ppf(0.975, max(decide.sum() ** 2 / (decide**2).sum() - 1, 1))
    if share and 0 < value < 1:
        low, high = expit(logit(value) + np.array([-half, half]) / (value * (1 - value)))  # its slope there
    else:
        low, high = value - half, value + half
    return entry | {"low": number(low), "high": number(high)}


def of_share(entry: Interval, groups: int) -> Interval:
    """A share {value, low, high} that is counted in so many groups, with limits where no group moves its value.

    Where all groups succeed, or none does, leaving one out says the same of 7 groups as of 700. The limits are then the
    exact ones of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404), a group a trial: 7 of 7 give 59–100 %. One
    group with right and wrong images has no spread: None. So has no group at all.
    """
    value = entry["value"]
    if value is None or entry["low"] != entry["high"]:
        return entry
    if value in (0, 1) and groups:
        from scipy.stats import binomtest

        exact = binomtest(int(value) * groups, groups).proportion_ci(0.95, method="exact")
        return {"value": value, "low": number(exact.low), "high": number(exact.high)}
    return entry if groups > 1 else without_limits(value)


def without_limits(value: float | None) -> Interval:
    """A value of which no interval can be reported."""
    return {"value": value, "low": None, "high": None}


def mean_interval(
    values: Sequence, groups: Sequence, *, share: bool | None = None, weights: Sequence | None = None
) -> Interval:
    """{value, low, high} of the mean of `values`, with a 95 % interval over `groups`.

    `share`: whether it is a share of rows, whose limits at 0 and 1 are exact (`of_share`), and no difference; None:
    where `values` are truth values. `weights`: how many rows each value stands for, 1 by default."""
    values, member = np.asarray(values), pd.factorize(np.asarray(groups))[0]
    share = values.dtype == bool if share is None else share
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    sums, sizes = np.bincount(member, values * weights), np.bincount(member, weights)
    left = (sums.sum() - sums) / np.maximum(sizes.sum() - sizes, SAME)
    found = t_interval(sums.sum() / sizes.sum(), left, sizes, share=share)
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
