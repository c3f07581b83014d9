"""Metrics against hand-made cases, intervals that resample groups, tables that can be computed again from files."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.classification import evaluate, point_metrics
from utils.evaluation.intervals import grouped_bootstrap_ci

CLASSES = ("a", "b", "c")


def table(truth, predicted, group=None, confidence=0.9):
    """A prediction table whose predicted class has probability `confidence`."""
    rest = (1 - confidence) / (len(CLASSES) - 1)
    p = np.where(np.array(CLASSES) == np.array(list(predicted))[:, None], confidence, rest)
    columns = {f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)}
    group = range(len(truth)) if group is None else group
    return pd.DataFrame({"label": list(truth), "predicted": list(predicted), "group": group, **columns})


def test_metrics_by_hand():
    result = evaluate(table("aaaabbcc", "aaabbbca"), CLASSES, resamples=20)
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    assert value["accuracy"] == 0.75
    assert value["confidence"] == pytest.approx(0.9)
    assert value["calibration_error"] == pytest.approx(0.15)
    assert value["macro_precision"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert value["macro_recall"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert value["weighted_recall"] == pytest.approx(0.75)
    assert value["macro_f1"] == pytest.approx((3 / 4 + 4 / 5 + 2 / 3) / 3)
    assert value["macro_f2"] == pytest.approx((3 / 4 + 10 / 11 + 5 / 9) / 3)
    assert result["confusion"] == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert result["per_class"]["c"]["recall"]["value"] == 0.5
    assert [result["per_class"][c]["images"] for c in CLASSES] == [4, 2, 2]


def test_auc_by_hand():
    p = np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    assert point_metrics(np.array([0, 0, 1, 1]), p, p.argmax(1))["macro_auc"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(("predicted", "accuracy"), [("abc", 1.0), ("bca", 0.0)])
def test_perfect_and_always_wrong(predicted, accuracy):
    result = evaluate(table("abc" * 20, predicted * 20), CLASSES, resamples=50)
    assert result["metrics"]["accuracy"] == {"value": accuracy, "low": accuracy, "high": accuracy}


def test_intervals_resample_groups_not_images():
    """Ten copies of each slice add no information: the interval stays as wide as without them."""
    rng = np.random.default_rng(0)
    truth = rng.choice(list(CLASSES), 60)
    predicted = np.where(rng.random(60) < 0.8, truth, "a")
    widths = []
    for copies, group in ((1, np.arange(60)), (10, np.repeat(np.arange(60), 10)), (10, np.arange(600))):
        entry = evaluate(table(np.repeat(truth, copies), np.repeat(predicted, copies), group), CLASSES, 400)
        widths.append(entry["metrics"]["accuracy"]["high"] - entry["metrics"]["accuracy"]["low"])
    single, grouped, as_images = widths
    assert grouped == pytest.approx(single, rel=0.15)
    assert as_images < 0.5 * single


def test_interval_of_a_mean_is_the_textbook_one():
    sample = np.random.default_rng(1).normal(size=400)
    found = grouped_bootstrap_ci(np.arange(400), lambda rows: {"mean": sample[rows].mean()}, resamples=3000)["mean"]
    half = 1.96 * sample.std() / 20
    assert (found["low"], found["high"]) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.01)


def test_one_group_alone_has_no_interval_and_a_missing_class_no_auc():
    result = evaluate(table("aabb", "abab", group=["x"] * 4), CLASSES, resamples=20)
    assert result["metrics"]["accuracy"]["low"] is None
    assert result["per_class"]["c"]["auc"]["value"] is None
    assert result["per_class"]["c"]["recall"]["value"] == 0
