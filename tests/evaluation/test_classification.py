"""Metrics against hand-made cases, areas that never compare two networks, and figures of them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from utils.evaluation.classification import area_under_roc, evaluate, groups_ranked
from utils.report import figures

CLASSES = ("a", "b", "c")


def test_metrics_by_hand():
    truth, predicted = list("aaaabbcc"), list("aaabbbca")
    columns = {f"p_{c}": np.where(np.array(predicted) == c, 0.9, 0.05) for c in CLASSES}
    table = pd.DataFrame({"label": truth, "predicted": predicted, "group": range(8), **columns})
    result = evaluate(table, CLASSES, resamples=20)
    value = {name: entry["value"] for name, entry in result["metrics"].items()}
    wanted = {"accuracy": 0.75, "confidence": 0.9, "calibration_error": 0.15, "weighted_recall": 0.75}
    wanted |= {"macro_precision": (3 / 4 + 2 / 3 + 1) / 3, "macro_recall": (3 / 4 + 1 + 1 / 2) / 3}
    wanted |= {"macro_f1": (3 / 4 + 4 / 5 + 2 / 3) / 3, "macro_f2": (3 / 4 + 10 / 11 + 5 / 9) / 3}
    assert {name: value[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert result["confusion"] == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert result["per_class"]["c"]["recall"]["value"] == 0.5
    assert [result["per_class"][c]["images"] for c in CLASSES] == [4, 2, 2]
    error = result["metrics"]["calibration_error"]
    assert error["low"] is None and error["high"] is None, "chance makes it larger"


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
