"""Several findings an image: metrics by hand, intervals over patients, thresholds, nearest neighbours."""

import json

import numpy as np
import pandas as pd
import pytest
from findings_scores import predictions

from datasets.store.images import ImageDataset
from utils.evaluation.baselines import neighbours_findings
from utils.evaluation.findings import evaluate_findings, thresholds_for


def test_metrics_of_findings_by_hand():
    table = predictions()
    found = evaluate_findings(table, ("a", "b", "c"), resamples=100)
    a, shown = found["per_class"]["a"], table.y_a == 1
    pairs = table.p_a[shown].to_numpy()[:, None] > table.p_a[~shown].to_numpy()
    assert a["auc"]["value"] == pytest.approx(pairs.mean(), abs=1e-6)
    ranked = table.sort_values("p_a", ascending=False).y_a.to_numpy()
    precision = ranked.cumsum() / np.arange(1, len(ranked) + 1)
    assert a["average_precision"]["value"] == pytest.approx(precision[ranked == 1].mean(), abs=1e-6)
    called = table.called_a == 1
    wanted = {"sensitivity": called[shown].mean(), "specificity": 1 - called[~shown].mean()}
    wanted["precision"] = shown[called].mean()
    wanted["f1"] = 2 / (1 / wanted["sensitivity"] + 1 / wanted["precision"])
    assert {m: a[m]["value"] for m in wanted} == pytest.approx(wanted, abs=1e-6)
    assert all(a[m]["low"] < a[m]["value"] < a[m]["high"] for m in wanted)
    assert a["images"] == shown.sum() and found["groups"] == 100 and found["images"] == 200
    assert found["per_class"]["c"]["auc"]["value"] is None and found["per_class"]["c"]["images"] == 0
    both = [found["per_class"][name]["auc"]["value"] for name in "ab"]
    assert found["metrics"]["macro_auc"]["value"] == pytest.approx(np.mean(both), abs=1e-6)
    json.dumps(found, allow_nan=False)


def test_intervals_are_over_patients():
    once = predictions(100)
    often = pd.concat([once] * 10)
    narrow = evaluate_findings(often.assign(group=range(1000)), ("a",), resamples=200)["per_class"]["a"]["auc"]
    whole, alone = (evaluate_findings(t, ("a",), resamples=200)["per_class"]["a"]["auc"] for t in (often, once))
    assert (whole["low"], whole["high"]) == (alone["low"], alone["high"]), "a patient's copies are no further patients"
    assert narrow["high"] - narrow["low"] < 0.6 * (whole["high"] - whole["low"])


def test_thresholds_have_the_best_f1_on_validation():
    table = predictions(300, seed=1)
    probs, shown = (table[[f"{kind}_{name}" for name in "abc"]].to_numpy() for kind in "py")
    chosen = thresholds_for(probs, shown)
    assert np.isnan(chosen[2]), "a finding that validation lacks has none"
    for k in (0, 1):

        def f1(threshold, k=k):
            called = probs[:, k] >= threshold
            return 2 * (called & (shown[:, k] == 1)).sum() / (called.sum() + shown[:, k].sum())

        assert f1(chosen[k]) == max(f1(t) for t in probs[:, k])


def test_the_neighbours_share_of_a_finding(roots):
    data = ImageDataset("phantom", np.arange(40), image_size=16, target="findings")
    own = neighbours_findings(data, data, neighbours=1)
    copies = np.array([int(np.flatnonzero((data.batch(range(40))["image"] == image).flatten(1).all(1))[0])
                       for image in data.batch(range(40))["image"]])  # fmt: skip
    assert (own == data.labels.numpy()[copies]).mean() > 0.95, "the nearest image is the image itself"
    assert np.allclose(neighbours_findings(data, data, neighbours=40), data.labels.numpy().mean(0))


def in_folds(shift):
    """Two folds of 8 and 4 images, every image a patient; the scores of the second lie `shift` higher, as another
    network's may. Finding a: all 4·4 pairs of the first fold are ranked right, 1 of the 1·3 of the second."""
    shown = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0])
    score = np.array([5, 6, 7, 8, 1, 2, 3, 4, 2, 1, 3, 4]) / 10.0
    fold = np.repeat([0, 1], [8, 4])
    table = pd.DataFrame({"group": np.arange(12), "y_a": shown, "p_a": score + shift * fold, "called_a": shown})
    return table, fold


def test_folds_are_not_ranked_against_each_other():
    table, fold = in_folds(shift=0.9)
    found = evaluate_findings(table, ("a",), resamples=200, fold=fold)
    auc = found["per_class"]["a"]["auc"]
    assert auc["value"] == pytest.approx(17 / 19, abs=1e-6), "weighted by pairs"
    assert found["metrics"]["macro_auc"] == auc
    assert evaluate_findings(*in_folds(shift=0)[:1], ("a",), resamples=200, fold=fold)["per_class"]["a"]["auc"] == auc
    assert evaluate_findings(table, ("a",), resamples=20)["per_class"]["a"]["auc"]["value"] < 0.8, "across folds"
    one = evaluate_findings(table[:8], ("a",), resamples=20, fold=fold[:8])
    assert one == evaluate_findings(table[:8], ("a",), resamples=20), "a single fold changes nothing"


def test_groups_are_drawn_within_their_fold():
    """Every patient has an image of each kind; all pairs of the first fold are ranked right, none of the second: as
    long as each fold keeps its weight, nothing varies."""
    table = pd.DataFrame({"group": np.arange(40) // 2, "y_a": [1, 0] * 20, "p_a": [0.9, 0.1] * 10 + [0.1, 0.9] * 10})
    fold = np.repeat([0, 1], 20)
    table["called_a"] = 1 - fold
    within, across = (
        evaluate_findings(table, ("a",), resamples=100, **given)["per_class"]["a"] for given in ({"fold": fold}, {})
    )
    assert within["auc"] == within["sensitivity"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert across["sensitivity"]["low"] < 0.4 and across["sensitivity"]["high"] > 0.6


def test_rates_of_all_or_no_patients_have_exact_limits():
    table, _ = in_folds(shift=0)
    found = evaluate_findings(table, ("a",), resamples=50)["per_class"]["a"]
    limits = {"sensitivity": 5, "specificity": 7, "precision": 5, "f1": 5}
    for metric, patients in limits.items():
        assert found[metric] == {"value": 1, "low": pytest.approx(0.025 ** (1 / patients), abs=1e-6), "high": 1}
    first = evaluate_findings(table[:8], ("a",), resamples=50)["per_class"]["a"]["auc"]
    assert first == {"value": 1, "low": pytest.approx(0.025 ** (1 / 4), abs=1e-6), "high": 1}, "four pairs of patients"
