"""Metrics against hand-made cases, areas that never compare two networks, and intervals that resample groups."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from utils.evaluation.classification import area_under_roc, evaluate, groups_ranked
from utils.report import figures

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
    wanted = {"accuracy": 0.75, "confidence": 0.9, "calibration_error": 0.15, "weighted_recall": 0.75}
    wanted |= {"macro_precision": (3 / 4 + 2 / 3 + 1) / 3, "macro_recall": (3 / 4 + 1 + 1 / 2) / 3}
    wanted |= {"macro_f1": (3 / 4 + 4 / 5 + 2 / 3) / 3, "macro_f2": (3 / 4 + 10 / 11 + 5 / 9) / 3}
    assert {name: value[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert result["confusion"] == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert result["per_class"]["c"]["recall"]["value"] == 0.5
    assert [result["per_class"][c]["images"] for c in CLASSES] == [4, 2, 2]
    error = result["metrics"]["calibration_error"]
    assert error["low"] is None and error["high"] is None, "resampling makes it larger"


@pytest.mark.parametrize(("predicted", "accuracy"), [("abc", 1.0), ("bca", 0.0)])
def test_perfect_and_always_wrong(predicted, accuracy):
    """No draw differs, but 60 groups alike do not make a certainty: the limit is exact, per class that of 20 groups."""
    result = evaluate(table("abc" * 20, predicted * 20), CLASSES, resamples=50)
    of_class = result["per_class"]["a"]
    found = {60: [result["metrics"]["accuracy"]], 20: [of_class["recall"], of_class["precision"], of_class["f1"]]}
    found[20].append(result["metrics"]["macro_recall"])
    for groups, entries in found.items():
        low, high = (0.025 ** (1 / groups), 1) if accuracy else (0, 1 - 0.025 ** (1 / groups))
        for entry in entries:
            assert (entry["value"], entry["low"], entry["high"]) == pytest.approx((accuracy, low, high), abs=1e-6)


def test_an_absent_class_has_no_metric_and_no_part_in_the_mean():
    result = evaluate(table("aaabbb", "aacbbb"), CLASSES, resamples=50)
    assert result["per_class"]["c"]["precision"]["value"] is None
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    assert value["macro_recall"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert value["macro_precision"] == 1 and value["weighted_recall"] == pytest.approx(5 / 6, abs=1e-6)
    assert value["macro_auc"] is not None


def test_a_draw_without_a_class_says_nothing_of_it():
    """20 classes of two groups each, one right and one half right: most draws lack some class."""
    classes = [f"c{k:02}" for k in range(20)]
    label = np.repeat(classes, 4)
    predicted = label.copy()
    predicted[3::4] = np.roll(classes, 1)
    p = (predicted[:, None] == np.array(classes)) * 0.5 + 0.02
    columns = {f"p_{c}": p[:, k] for k, c in enumerate(classes)}
    rare = pd.DataFrame({"label": label, "predicted": predicted, "group": np.arange(80) // 2, **columns})
    result = evaluate(rare, classes, resamples=300)
    recall = result["metrics"]["macro_recall"]
    assert recall["value"] == 0.75 and 0.6 < recall["low"] < 0.7 and 0.8 < recall["high"] < 0.9
    assert result["per_class"]["c00"]["recall"]["low"] == 0.5, "of draws that have the class, not 0 of the others"


def test_intervals_resample_groups_not_images():
    """Ten copies of each slice add no information: the interval stays as wide as without them."""
    rng = np.random.default_rng(0)
    truth = rng.choice(list(CLASSES), 60)
    predicted = np.where(rng.random(60) < 0.8, truth, "a")
    widths = []
    for copies, group in ((1, np.arange(60)), (10, np.repeat(np.arange(60), 10)), (10, np.arange(600))):
        entry = evaluate(table(np.repeat(truth, copies), np.repeat(predicted, copies), group), CLASSES, 400)
        widths.append(entry["metrics"]["accuracy"]["high"] - entry["metrics"]["accuracy"]["low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.15) and widths[2] < 0.5 * widths[0]
    alone = evaluate(table("aabb", "abab", group=["x"] * 4), CLASSES, resamples=20)
    assert alone["metrics"]["accuracy"]["low"] is None, "one group alone"


def test_an_area_is_scikit_learn_s_weighted_over_folds_whatever_their_scales():
    rng = np.random.default_rng(0)
    positive, fold = rng.random((60, 3)) < 0.4, np.arange(60) // 20
    scores = (rng.random((60, 3)) + 0.3 * positive).round(1)  # some are equal
    whole = [roc_auc_score(positive[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(area_under_roc(positive, scores), whole)
    parts = [[roc_auc_score(positive[fold == f, k], scores[fold == f, k]) for k in range(3)] for f in range(3)]
    pairs = [positive[fold == f].sum(0) * (~positive[fold == f]).sum(0) for f in range(3)]
    for offset in (0, 10):
        moved = scores + offset * fold[:, None]
        np.testing.assert_allclose(area_under_roc(positive, moved, fold), np.average(parts, axis=0, weights=pairs))
    positive[:, 0], positive[:, 1] = True, False
    assert np.isnan(area_under_roc(positive, scores)).tolist() == [True, True, False], "without a pair there is none"


def test_groups_of_both_kinds_within_a_fold():
    groups, positive = np.array(list("aabbccdd")), np.array([1, 0, 1, 1, 0, 0, 0, 0], bool)
    assert groups_ranked(groups, positive, np.zeros(8)) == 2  # a and b are positive; a, c and d negative
    assert groups_ranked(groups, positive, np.repeat([0, 1], 4)) == 1  # in the first fold a alone, in the second none


def test_top_k_of_many_classes_by_hand():
    classes = [f"c{i}" for i in range(6)]
    ranked = {f"p_{c}": p for c, p in zip(classes, [0.4, 0.3, 0.2, 0.06, 0.03, 0.01], strict=True)}
    several = pd.DataFrame({"label": ["c0", "c2", "c5"], "predicted": "c0", "group": [0, 1, 2], **ranked})
    found = evaluate(several, classes, resamples=10)["metrics"]
    values = [found[n]["value"] for n in ("accuracy", "top3_accuracy", "top5_accuracy")]
    assert values == pytest.approx([1 / 3, 2 / 3, 2 / 3], abs=1e-6)
    assert "top3_accuracy" not in evaluate(several[:1], classes[:4], resamples=2)["metrics"]


@pytest.mark.parametrize("number", [4, 44])
def test_figures_of_few_and_of_many_classes(number):
    classes = [f"class {i}" for i in range(number)]
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, number - 1, 300), rng.dirichlet(np.ones(number), 300)  # the last never occurs
    many = pd.DataFrame({"label": np.array(classes)[truth], "predicted": np.array(classes)[scores.argmax(1)]})
    many = many.assign(**{f"p_{c}": scores[:, i] for i, c in enumerate(classes)})
    assert len(figures.confusion(many, classes).axes[0].texts) == (16 if number == 4 else 0)
    curves = figures.roc(many, classes).axes[0]
    assert len(curves.lines) == number - 1 + 1, "a curve a class that occurs, and the diagonal"
    assert bool(curves.get_legend()) == (number == 4)
    figures.class_counts({"train": many.label, "test": many.label}, classes)
    plt.close("all")
