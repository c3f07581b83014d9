"""Intervals: the textbook's of a mean, exact ones where all groups agree, none of few draws, drawing within strata."""

import numpy as np
import pytest
from scipy.stats import binomtest

from utils.evaluation.intervals import grouped_bootstrap_ci, mean_interval, of_share


def limits(entry):
    return [entry["low"], entry["high"]]


def test_interval_of_a_mean_is_the_textbook_one():
    sample = np.random.default_rng(1).normal(size=400)
    found = grouped_bootstrap_ci(np.arange(400), lambda rows: {"mean": sample[rows].mean()}, resamples=3000)["mean"]
    half = 1.96 * sample.std() / 20
    assert limits(found) == pytest.approx([sample.mean() - half, sample.mean() + half], abs=0.01)
    assert limits(mean_interval(sample, np.arange(400), 3000)) == limits(found)


def test_groups_are_resampled_and_not_images():
    """Ten copies of each slice add no information: the interval stays as wide as without them."""
    right, sample = np.random.default_rng(0).random(60) < 0.8, np.arange(60)
    cases = ((right, sample), (right.repeat(10), sample.repeat(10)), (right.repeat(10), np.arange(600)))
    one, copied, wrong = (np.diff(limits(mean_interval(*case, 400)))[0] for case in cases)
    assert copied == one and wrong < 0.5 * one


@pytest.mark.parametrize("groups", [1, 7, 42])
def test_all_groups_or_none_give_the_exact_limits_of_a_share_and_not_of_a_difference(groups):
    group = np.arange(84) % groups
    for right in (True, False):
        found = mean_interval(np.full(84, right), group, resamples=20)
        exact = binomtest(groups * right, groups).proportion_ci(method="exact")
        assert found["value"] == right and limits(found) == pytest.approx([exact.low, exact.high], abs=1e-6)
        assert mean_interval(np.full(84, float(right)), group, resamples=20, share=True) == found
    assert limits(mean_interval(np.zeros(84), group, resamples=20)) == ([None, None] if groups == 1 else [0, 0])


def test_what_has_a_spread_keeps_its_interval_and_what_has_none_gets_none():
    spread = {"value": 1.0, "low": 0.9, "high": 1.0}
    assert of_share(spread, 5) == spread
    without = dict.fromkeys(("value", "low", "high"), 0.8)
    assert limits(of_share(without, 1)) == [None, None], "one group alone"
    assert of_share(without, 2) == without
    assert limits(of_share(dict.fromkeys(without, 0.0), 0)) == [None, None], "in no group at all"
    assert of_share(dict.fromkeys(without), 3)["value"] is None


def test_of_few_draws_or_of_draws_that_miss_the_value_there_is_no_interval():
    def statistic(rows):  # a draw of four groups has the first two of them in 47 %
        first = rows[np.isin(rows, (0, 1))].mean() if {0, 1} <= set(rows) else np.nan
        return {"first": first, "mean": rows.mean(), "rows": float(len(set(rows)))}  # no draw has as many as there are

    found = grouped_bootstrap_ci(np.arange(4), statistic, resamples=500)
    assert found["first"] == {"value": 0.5, "low": None, "high": None}
    assert found["mean"]["low"] < found["mean"]["value"] < found["mean"]["high"]
    assert grouped_bootstrap_ci(np.arange(40), statistic, resamples=50)["rows"] == {
        "value": 40,
        "low": None,
        "high": None,
    }


def test_groups_are_drawn_within_strata():
    """The strata differ and are alike within: drawing within them leaves nothing to vary, their sizes neither."""
    stratum, sizes = np.repeat([0, 1], [10, 30]), set()

    def statistic(rows):
        sizes.add(int((rows < 10).sum()))
        return {"mean": stratum[rows].mean()}

    together = grouped_bootstrap_ci(np.arange(40), statistic, resamples=100)["mean"]
    assert together["low"] < 0.75 < together["high"] and len(sizes) > 3
    sizes.clear()
    within = grouped_bootstrap_ci(np.arange(40), statistic, resamples=100, strata=stratum)["mean"]
    assert within == {"value": 0.75, "low": 0.75, "high": 0.75} and sizes == {10}
    alone = grouped_bootstrap_ci([0, 1, 2], lambda rows: {"mean": rows.mean()}, resamples=20, strata=[0, 0, 1])
    assert limits(alone["mean"]) == [None, None], "a stratum of one group"
