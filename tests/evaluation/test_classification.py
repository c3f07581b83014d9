"""Metrics against hand-made cases, intervals that resample groups, tables that can be computed again from files."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.classification import evaluate, point_metrics

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
    assert point_metrics(np.array([0, 0, 1, 1]), p, p.argmax(1), None, np.zeros(4))["macro_auc"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(("predicted", "accuracy"), [("abc", 1.0), ("bca", 0.0)])
def test_perfect_and_always_wrong(predicted, accuracy):
    """No draw differs, but 60 groups alike do not make a certainty: the limit is exact, per class that of 20 groups."""
    result = evaluate(table("abc" * 20, predicted * 20), CLASSES, resamples=50)
    limits = {60: 0.025 ** (1 / 60), 20: 0.025 ** (1 / 20)}
    of_class = result["per_class"]["a"]
    found = {60: [result["metrics"]["accuracy"]], 20: [of_class["recall"], of_class["precision"], of_class["f1"]]}
    found[20].append(result["metrics"]["macro_recall"])
    for groups, entries in found.items():
        low, high = (limits[groups], 1) if accuracy else (0, 1 - limits[groups])
        for entry in entries:
            assert (entry["value"], entry["low"], entry["high"]) == pytest.approx((accuracy, low, high), abs=1e-6)
    if accuracy:
        assert of_class["auc"] == of_class["recall"], "20 pairs of an image of it and another that share no group"


def rare_classes(number=20, groups=2):
    """Many classes of two groups each, of which one is right and one is half right: most draws lack some class."""
    classes = [f"c{k:02}" for k in range(number)]
    label = np.repeat(classes, 4)
    predicted = label.copy()
    predicted[3::4] = np.roll(classes, 1)
    p = np.where(predicted[:, None] == np.array(classes), 0.5, 0.5 / (number - 1))
    p[np.arange(len(label)), np.repeat(np.arange(number), 4)] += 0.2
    columns = {f"p_{c}": p[:, k] for k, c in enumerate(classes)}
    group = np.arange(len(label)) // groups
    return pd.DataFrame({"label": label, "predicted": predicted, "group": group, **columns}), classes


def test_a_draw_without_a_class_says_nothing_of_it():
    """A class that a draw misses counted 0 in macro means, so that they were too low, and left none for the AUC."""
    predictions, classes = rare_classes()
    result = evaluate(predictions, classes, resamples=300)
    recall, auc = (result["metrics"][name] for name in ("macro_recall", "macro_auc"))
    assert recall["value"] == 0.75 and 0.6 < recall["low"] < 0.7 and 0.8 < recall["high"] < 0.9
    assert auc["low"] < auc["value"] < auc["high"] and auc["high"] - auc["low"] > 0.003
    assert result["per_class"]["c00"]["recall"]["low"] == 0.5, "of draws that have the class, not 0 of the others"


def test_an_absent_class_has_no_metric_and_no_part_in_the_mean():
    result = evaluate(table("aaabbb", "aacbbb"), CLASSES, resamples=50)
    assert result["per_class"]["c"]["precision"]["value"] is None
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    assert value["macro_recall"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert value["macro_precision"] == 1 and value["weighted_recall"] == pytest.approx(5 / 6, abs=1e-6)
    assert value["macro_auc"] is not None


def test_the_calibration_error_has_no_limits():
    """Resampling makes it larger: here the estimate lies below all draws."""
    rng = np.random.default_rng(0)
    truth = rng.choice(list(CLASSES), 90)
    result = evaluate(table(truth, np.where(rng.random(90) < 0.9, truth, "a")), CLASSES, resamples=50)
    entry = result["metrics"]["calibration_error"]
    assert entry["value"] > 0 and entry["low"] is None and entry["high"] is None


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


def test_one_group_alone_has_no_interval_and_a_missing_class_no_auc():
    result = evaluate(table("aabb", "abab", group=["x"] * 4), CLASSES, resamples=20)
    assert result["metrics"]["accuracy"]["low"] is None
    assert result["per_class"]["c"]["auc"]["value"] is None
    assert result["per_class"]["c"]["recall"]["value"] is None
