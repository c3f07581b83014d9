"""Compares methods that were tested on the same images: difference, interval, a test that knows patients, a verdict.

The only place that judges a difference. Predictions are tables as a run's `predictions.csv.gz` holds them; a method
with several seeds is a list of tables, one a seed. Intervals are over groups, since slices of one patient are not
independent. The spread between seeds is not in an interval; `by_seed` says what each of them shows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from utils.evaluation.intervals import mean_interval
from utils.evaluation.segmentation import by_patient

LEVEL = 0.05  # of a paired test
FLIPS = 10_000  # random exchanges of the two methods in whole groups
BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "no difference shown"
TEST = f"paired test, p < {LEVEL} after correction for the number of comparisons"  # said where differences are told
UNCORRECTED = "95 % intervals, not corrected for their number"  # of what has no paired test


@dataclass(frozen=True)
class Difference:
    """How far one method lies above another; `Difference(**entry)` judges any {value, low, high} of a difference.

    `p` is that of a test that exchanges the two methods in whole groups at random (two-sided, a sign-flip test).
    """

    value: float  # a share
    low: float | None  # of a 95 % interval over groups; None where none could be drawn
    high: float | None
    p: float | None = None  # None without a test
    p_corrected: float | None = None  # for the number of comparisons, see `corrected`
    by_seed: tuple[float, ...] = ()  # the difference of each seed, where there are several
    before: float | None = None  # the mean score of the reference
    after: float | None = None  # the mean score of the method compared with it

    @property
    def why(self) -> str:
        """What keeps the difference from being shown; "" where it is shown."""
        if self.low is None:
            return "without an interval"
        if self.low <= 0 <= self.high:
            return "an interval that includes 0"
        p, reasons = self.p if self.p_corrected is None else self.p_corrected, []
        if p is not None and p >= LEVEL:
            reasons.append(f"p = {p:.3f}" + ("" if self.p_corrected is None else " after correction"))
        if len(set(np.sign(self.by_seed))) > 1:
            reasons.append("not of one sign for every seed")
        return " and ".join(reasons)

    @property
    def verdict(self) -> str:
        """`BETTER` or `WORSE` where the interval does not include 0, p (the corrected one, if there is one) is below
        `LEVEL`, and every seed has the same sign; else `NO_DIFFERENCE`."""
        if self.why:
            return NO_DIFFERENCE
        return BETTER if self.low > 0 else WORSE

    @property
    def interval(self) -> dict[str, float | None]:
        """{value, low, high}, as records hold it."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def points(self) -> str:
        """`+1.2 (+0.3 to +2.0) points`."""
        limits = "" if self.low is None else f" ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        return f"{100 * self.value:+.1f}{limits} points"

    def __str__(self) -> str:
        return self.points() + (f", {self.why}: no difference is shown" if self.why else "")


def correct(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a test image, by path: its label, its `group`, and as `score` whether it was classified right."""
    table = predictions.sort_values("path").set_index("path")
    return table[["label", "group"]].assign(score=table.label == table.predicted)


def dice(channels: Sequence[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The same for tables of masks: a row a patient, whose `score` is the mean Dice of `channels`."""

    def score(predictions: pd.DataFrame) -> pd.DataFrame:
        table = by_patient(predictions, channels).set_index("patient")
        each = [table[f"{name}.dice"] for name in channels]
        return pd.DataFrame({"label": "", "group": table.group, "score": np.mean(each, axis=0)})

    return score


Tables = pd.DataFrame | Sequence[pd.DataFrame]


def difference(ours: Tables, reference: Tables, score: Callable = correct) -> Difference | None:
    """The mean score of one method minus that of another, image by image (or patient by patient).

    Args:
        ours, reference: the predictions of two runs, or of each seed of two methods, seeds in the same order.
        score: `correct` or `dice(channels)`. Only `correct` is tested (`p`); others are judged by their interval.

    Returns:
        The mean over seeds; None where the two tested different images, or were asked for different labels of them.
    """
    ours, reference = ([score(table) for table in _listed(tables)] for tables in (ours, reference))
    if not all(table[["label"]].equals(ours[0][["label"]]) for table in (*ours, *reference)):  # by path, too
        return None
    pairs = zip(ours, reference, strict=True)
    gains = [one.assign(gain=one.score.astype(float) - other.score.astype(float)) for one, other in pairs]
    # Every image stands in the joined table once a seed, in the same group: the mean over rows is that over seeds.
    joined = pd.concat(gains)
    after, before = (float(pd.concat(tables).score.mean()) for tables in (ours, reference))
    by_seed = tuple(round(float(table.gain.mean()), 6) for table in gains) if len(gains) > 1 else ()
    p = _sign_flip(joined.gain, joined.group) if score is correct else None
    entry = mean_interval(joined.gain, joined.group, share=False)
    return Difference(**entry, p=p, by_seed=by_seed, before=before, after=after)


def mean_score(tables: Tables) -> dict[str, float | None]:
    """{value, low, high} of the accuracy of a method, the mean over its seeds, with a 95 % interval over groups."""
    joined = pd.concat([correct(table) for table in _listed(tables)])
    return mean_interval(joined.score, joined.group)


def corrected(differences: Iterable[Difference | None]) -> list[Difference | None]:
    """Differences that are looked at together, each with `p_corrected` (Benjamini and Yekutieli 2001, which holds under
    any dependence); what has no test, and None, stays as it is and counts for nothing."""
    differences = list(differences)
    tested = [k for k, found in enumerate(differences) if found and found.p is not None]
    p = false_discovery_control([differences[k].p for k in tested], method="by") if tested else ()
    for k, one in zip(tested, p, strict=True):
        differences[k] = replace(differences[k], p_corrected=float(one))
    return differences


def _listed(tables: Tables) -> Sequence[pd.DataFrame]:
    return [tables] if isinstance(tables, pd.DataFrame) else tables


def _sign_flip(gains: pd.Series, groups: pd.Series) -> float:
    of_groups = gains.groupby(groups.to_numpy()).sum().to_numpy()
    of_groups = of_groups[of_groups != 0]  # exchanging equals changes nothing
    n = len(of_groups)
    if n < 14:  # all ways to exchange them: of a single one, or of none, each is as far from 0
        flipped, drawn = np.arange(2**n)[:, None] >> np.arange(n) & 1, 0
    else:  # as many at random; the one that was found counts as drawn, too
        flipped, drawn = np.random.default_rng(0).integers(0, 2, (FLIPS, n), dtype=np.int8), 1
    sums = (1.0 - 2.0 * flipped) @ of_groups
    as_far = np.count_nonzero(np.abs(sums) >= abs(of_groups.sum()) - 1e-9)
    return (as_far + drawn) / (len(sums) + drawn)
