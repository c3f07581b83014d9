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
