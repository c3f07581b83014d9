"""Intervals: the textbook's of a mean, exact ones where all groups agree, none of few draws, drawing within strata."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from utils.evaluation.intervals import grouped_bootstrap_ci, groups_with, mean_interval, of_share
from utils.evaluation.saliency import MEASURED, summarise

LIMITS = ("low", "high")


def limits(entry):
    return [entry[name] for name in LIMITS]


def test_interval_of_a_mean_is_the_textbook_one():
    sample = np.random.default_rng(1).normal(size=400)
    found = grouped_bootstrap_ci(np.arange(400), lambda rows: {"mean": sample[rows].mean()}, resamples=3000)["mean"]
    half = 1.96 * sample.std() / 20
    assert (found["low"], found["high"]) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.01)


@pytest.mark.parametrize("groups", [1, 7, 42])
def test_all_groups_or_none_give_the_exact_limits(groups):
    """Images of 7 groups, all of them right, are no certainty."""
    group = np.arange(84) % groups
    for right in (True, False):
        found = mean_interval(np.full(84, right), group, resamples=20)
        exact = binomtest(groups * right, groups).proportion_ci(method="exact")
        assert found["value"] == right and limits(found) == pytest.approx([exact.low, exact.high], abs=1e-6)


def test_what_has_a_spread_keeps_its_interval_and_what_has_none_gets_none():
    spread = {"value": 1.0, "low": 0.9, "high": 1.0}
    assert of_share(spread, 5) == spread
    without = {"value": 0.8, "low": 0.8, "high": 0.8}
    assert limits(of_share(without, 1)) == [None, None], "one group alone"
    assert of_share(without, 2) == without
    assert limits(of_share({"value": 0.0, "low": 0.0, "high": 0.0}, 0)) == [None, None], "in no group at all"
    assert of_share(dict.fromkeys(("value", "low", "high")), 3)["value"] is None


def test_a_difference_is_no_share():
    assert limits(mean_interval(np.zeros(9), np.arange(9), resamples=20)) == [0, 0]
    assert limits(mean_interval(np.zeros(9), np.arange(9), resamples=20, share=True)) == pytest.approx(
        [0, 1 - 0.025 ** (1 / 9)], abs=1e-6
    )


def test_of_few_draws_there_is_no_interval():
    """A statistic that a few of the draws can give says nothing of the others."""
    there = [(0, 1), (0, 1, 2, 3)]  # a draw of four groups has the first two of them in 47 %, one of all four in all

    def statistic(rows):
        found = (rows[np.isin(rows, some)].mean() if set(some[:2]) <= set(rows) else np.nan for some in there)
        return dict(zip("ab", (next(found), rows.mean()), strict=True))

    found = grouped_bootstrap_ci(np.arange(4), statistic, resamples=500)
    assert found["a"]["value"] == 0.5 and limits(found["a"]) == [None, None]
    assert found["b"]["low"] < found["b"]["value"] < found["b"]["high"]


def test_an_interval_that_misses_its_value_is_not_reported():
    """Draws with repetition hold fewer different rows than there are, always: that says nothing of their number."""
    found = grouped_bootstrap_ci(np.arange(40), lambda rows: {"rows": float(len(set(rows)))}, resamples=50)
    assert found["rows"] == {"value": 40, "low": None, "high": None}


def test_groups_are_drawn_within_strata():
    """The strata differ and are alike within: drawing within them leaves nothing to vary, their sizes neither."""
    stratum = np.repeat([0, 1], [10, 30])
    sizes = set()

    def statistic(rows):
        sizes.add(int((rows < 10).sum()))
        return {"mean": stratum[rows].mean()}

    together = grouped_bootstrap_ci(np.arange(40), statistic, resamples=100)["mean"]
    assert together["low"] < 0.75 < together["high"] and len(sizes) > 3
    sizes.clear()
    within = grouped_bootstrap_ci(np.arange(40), statistic, resamples=100, strata=stratum)["mean"]
    assert within == {"value": 0.75, "low": 0.75, "high": 0.75} and sizes == {10}


def test_a_stratum_of_one_group_leaves_no_interval():
    found = grouped_bootstrap_ci([0, 1, 2], lambda rows: {"mean": rows.mean()}, resamples=20, strata=[0, 0, 1])
    assert limits(found["mean"]) == [None, None]


def test_groups_are_counted_that_hold_what_is_asked():
    assert groups_with(["a", "a", "b", "c"], np.array([True, True, False, True])) == 2


def test_where_a_network_points_at_every_tumour():
    """Pointing at all of 12 patients is a share of 1; a gain that is 0 everywhere stays a difference."""
    table = pd.DataFrame({name: np.ones(24) for name in MEASURED}).assign(
        near_area=1.0, area=0.02, label="glioma", predicted="glioma", patient=np.arange(24) // 2, blank=False
    )
    found = summarise(table, resamples=20)["all"]
    assert limits(found["near"]) == pytest.approx([0.025 ** (1 / 12), 1], abs=1e-6)
    assert limits(found["gain"]) == [0, 0] and limits(found["area"]) == [0.02, 0.02]
