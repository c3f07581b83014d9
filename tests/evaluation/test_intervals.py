"""Intervals: they cover what they say, the textbook's of a mean, exact ones where all groups agree, none of one."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binomtest, t

from datasets.store.index import SPLITS
from utils.evaluation.intervals import grouped_ci, mean_interval, of_share


def limits(entry):
    return [entry["low"], entry["high"]]


@pytest.mark.parametrize(("name", "fold"), [("cheng", 1), ("cheng", 4), ("sartaj", 1), ("brain-tumor-mri", 1)])
def test_intervals_of_single_folds_cover_the_truth(name, fold):
    """As many groups as a fold has, drawn from all committed ones with their sizes; groups differ in how hard they are
    (a normal effect on the logit). The accuracy of all groups is known; quantiles of resampled groups cover too rarely.
    """
    table, draws, rng = pd.read_csv(SPLITS / f"{name}.csv", usecols=["group", "fold"]), 1500, np.random.default_rng(0)
    sizes, groups = table.groupby("group").size().to_numpy(), table.group[table.fold == fold].nunique()

    def hardness(count):
        return expit(2 + 1.3 * rng.normal(size=count))

    truth, covered, quantiles = hardness(10**6).mean(), 0, 0
    for _ in range(draws):
        n = rng.choice(sizes, groups)
        right = rng.binomial(n, hardness(groups))
        found = mean_interval(right / n, np.arange(groups), share=True, weights=n)
        covered += found["low"] <= truth <= found["high"]
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), 200)
        low, high = np.quantile(drawn @ right / (drawn @ n), (0.025, 0.975))
        quantiles += low <= truth <= high
    assert quantiles / draws < 0.93 <= covered / draws <= 0.97


def test_interval_of_a_mean_is_the_textbook_one():
    sample = np.random.default_rng(1).normal(size=40)
    found = grouped_ci(np.arange(40), lambda rows: {"mean": sample[rows].mean()})["mean"]
    half = t.ppf(0.975, 39) * sample.std(ddof=1) / np.sqrt(40)
    assert limits(found) == pytest.approx([sample.mean() - half, sample.mean() + half], abs=1e-6)
    assert mean_interval(sample, np.arange(40)) == found
    twice = mean_interval(np.append(sample, sample[:9]), np.append(np.arange(40), np.arange(9)))
    weighted = mean_interval(sample, np.arange(40), weights=1 + (np.arange(40) < 9))
    assert twice == weighted, "a weight is a number of rows"


def test_a_share_stays_between_0_and_1_and_is_the_same_by_either_way():
    right, groups = np.arange(60) > 1, np.arange(60) // 3
    found = mean_interval(right, groups)
    assert 0.5 < found["low"] < found["value"] < found["high"] < 1 < mean_interval(right * 1.0, groups)["high"]
    assert grouped_ci(groups, lambda rows: {"share": right[rows].mean()}, trials={"share": 20})["share"] == found


def test_groups_are_the_witnesses_and_not_images():
    """Ten copies of each slice add no information: the interval stays as wide as without them."""
    right, sample = np.random.default_rng(0).random(60) < 0.8, np.arange(60)
    cases = ((right, sample), (right.repeat(10), sample.repeat(10)), (right.repeat(10), np.arange(600)))
    one, copied, wrong = (np.diff(limits(mean_interval(*case)))[0] for case in cases)
    assert copied == pytest.approx(one, abs=2e-6) and wrong < 0.5 * one


@pytest.mark.parametrize("groups", [1, 7, 42])
def test_all_groups_or_none_give_the_exact_limits_of_a_share_and_not_of_a_difference(groups):
    group = np.arange(84) % groups
    for right in (True, False):
        found = mean_interval(np.full(84, right), group)
        exact = binomtest(groups * right, groups).proportion_ci(method="exact")
        assert found["value"] == right and limits(found) == pytest.approx([exact.low, exact.high], abs=1e-6)
        assert mean_interval(np.full(84, float(right)), group, share=True) == found
    assert limits(mean_interval(np.zeros(84), group)) == ([None, None] if groups == 1 else [0, 0])


def test_what_has_a_spread_keeps_its_interval_and_what_has_none_gets_none():
    spread = {"value": 1.0, "low": 0.9, "high": 1.0}
    assert of_share(spread, 5) == spread
    without = dict.fromkeys(("value", "low", "high"), 0.8)
    assert limits(of_share(without, 1)) == [None, None], "one group alone"
    assert of_share(without, 2) == without
    assert limits(of_share(dict.fromkeys(without, 0.0), 0)) == [None, None], "in no group at all"
    assert of_share(dict.fromkeys(without), 3)["value"] is None


def test_a_value_that_one_group_decides_has_no_interval_and_groups_that_do_not_move_it_count_for_nothing():
    values = np.array([0.0, 1.0, 2.0, 3.0])

    def statistic(rows):
        return {"first": values[0] if 0 in rows else np.nan, "few": values[rows[rows < 2]].mean() if len(rows) else 0}

    found = grouped_ci(list("abcd"), statistic)
    assert found["first"] == {"value": 0, "low": None, "high": None}
    assert found["few"]["high"] - 0.5 == pytest.approx(t.ppf(0.975, 1) * np.sqrt(3 / 4 * 0.5), abs=1e-6)
    assert limits(grouped_ci([0, 0], lambda rows: {"mean": values[rows].mean()})["mean"]) == [None, None], "one group"


def test_of_many_groups_several_are_left_out_together():
    sample, asked = np.random.default_rng(1).normal(size=4000), []

    def statistic(rows):
        asked.append(len(rows))
        return {"mean": sample[rows].mean()}

    found = grouped_ci(np.arange(4000), statistic, resamples=200)["mean"]
    assert asked == [4000] + 200 * [3980]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * sample.std() / np.sqrt(4000), rel=0.15)


def test_a_share_without_exact_limits_keeps_its_value():
    for count, low in ((None, 1), (5, pytest.approx(0.025 ** (1 / 5), abs=1e-6))):
        assert grouped_ci(list("abcde"), lambda rows: {"dice": 1.0}, trials={"dice": count})["dice"]["low"] == low
