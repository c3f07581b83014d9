"""Metrics against hand-made cases, areas that never compare two networks, and figures of them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from utils.evaluation.classification import area_under_roc, calibration_slope, evaluate, groups_ranked

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


def test_brier_score_and_slope_of_calibration_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 2000)
    truth = np.array([rng.choice(3, p=row) for row in p])
    table = pd.DataFrame({"label": np.array(CLASSES)[truth], "predicted": np.array(CLASSES)[p.argmax(1)]})
    table = table.assign(group=np.arange(2000) // 2, **{f"p_{c}": p[:, k] for k, c in enumerate(CLASSES)})
    found = evaluate(table, CLASSES, resamples=50)["metrics"]
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(truth, p, scale_by_half=False), abs=1e-6)
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]
    slope = found["calibration_slope"]
    assert slope["low"] < 1 < slope["high"] and slope["high"] - slope["low"] < 0.3, "true probabilities"
    for factor in (0.5, 1.5):  # too unsure, too sure
        tempered = calibration_slope(truth, softmax(factor * np.log(p), axis=1), table.group)
        assert [tempered[key] * factor for key in slope] == pytest.approx(list(slope.values()), abs=1e-4)
    two, binary = p[:, :2] / p[:, :2].sum(1, keepdims=True), rng.random(2000)
    answer = (binary < two[:, 1]).astype(int)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False).fit(np.log(two[:, 1:] / two[:, :1]), answer)
    assert calibration_slope(answer, two, range(2000))["value"] == pytest.approx(fitted.coef_[0, 0], abs=1e-3)
    hard = np.eye(3)[truth]
    assert calibration_slope(truth, hard, range(2000))["value"] is None, "of 0 and 1 there is none"
    assert calibration_slope(truth, 0.9 * hard + 0.1 / 3, range(2000))["value"] is None, "no error: no finite one"


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
