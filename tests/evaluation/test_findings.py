"""Several findings an image: metrics by hand, intervals over patients within folds, thresholds, nearest neighbours."""

import json

import numpy as np
import pandas as pd
import pytest

from datasets.store.images import ImageDataset
from utils.evaluation.baselines import neighbours_findings
from utils.evaluation.findings import by_subgroup, evaluate_findings, thresholds_for


def predictions(images: int = 200, seed: int = 0) -> pd.DataFrame:
    """Two findings with scores that overlap, a third that none shows; two images a patient."""
    rng = np.random.default_rng(seed)
    table = {"path": [f"{i}.png" for i in range(images)], "group": [f"p{i // 2}" for i in range(images)]}
    for name, share in (("a", 0.3), ("b", 0.05), ("c", 0.0)):
        shown = (rng.random(images) < share).astype(int)
        score = rng.normal(shown, 1)
        table |= {f"y_{name}": shown, f"p_{name}": score, f"called_{name}": (score > 0.8).astype(int)}
    return pd.DataFrame(table)


def test_metrics_of_findings_by_hand():
    table = predictions()
    found = evaluate_findings(table, ("a", "b", "c"), resamples=100)
    a, shown = found["per_class"]["a"], table.y_a == 1
    pairs = table.p_a[shown].to_numpy()[:, None] > table.p_a[~shown].to_numpy()
    ranked = table.sort_values("p_a", ascending=False).y_a.to_numpy()
    precision, called = ranked.cumsum() / np.arange(1, len(ranked) + 1), table.called_a == 1
    wanted = {"auc": pairs.mean(), "average_precision": precision[ranked == 1].mean()}
    wanted |= {"sensitivity": called[shown].mean(), "specificity": 1 - called[~shown].mean()}
    wanted |= {"precision": shown[called].mean()}
    wanted["f1"] = 2 / (1 / wanted["sensitivity"] + 1 / wanted["precision"])
    assert {m: a[m]["value"] for m in wanted} == pytest.approx(wanted, abs=1e-6)
    assert all(a[m]["low"] < a[m]["value"] < a[m]["high"] for m in wanted)
    assert a["images"] == shown.sum() and found["groups"] == 100 and found["images"] == 200
    assert found["per_class"]["c"]["auc"]["value"] is None and found["per_class"]["c"]["images"] == 0
    both = [found["per_class"][name]["auc"]["value"] for name in "ab"]
    assert found["metrics"]["macro_auc"]["value"] == pytest.approx(np.mean(both), abs=1e-6)
    json.dumps(found, allow_nan=False)
    table = table.assign(called_a=pd.array([None] * 200, dtype="Int64"))
    unchosen = evaluate_findings(table, ("a",), resamples=5)["per_class"]["a"]
    assert unchosen["f1"]["value"] is None and unchosen["auc"]["value"] == a["auc"]["value"], "without a threshold"


def test_subgroups_by_sex_and_age_are_those_of_their_images_and_of_a_set_without_either_none():
    table = predictions()
    manifest = pd.DataFrame({"path": table.path, "sex": ["M", "F"] * 100, "age": ["020Y", "071Y", "50", ""] * 50})
    found = by_subgroup(table, manifest.sample(frac=1, random_state=0), "abc", resamples=20)
    assert {name: one.pop("images") for name, one in found.items()} == {
        "sex F": 100, "sex M": 100, "younger than 50": 50, "50 and older": 100,
    }  # fmt: skip
    assert found["sex M"] == evaluate_findings(table[::2], "abc", resamples=20)["metrics"]["macro_auc"]
    assert by_subgroup(table, manifest[["path"]], "abc", resamples=20) == {}


def test_thresholds_have_the_best_f1_on_validation():
    table = predictions(300, seed=1)
    probs, shown = (table[[f"{kind}_{name}" for name in "abc"]].to_numpy() for kind in "py")
    chosen = thresholds_for(probs, shown)
    assert np.isnan(chosen[2]), "a finding that validation lacks has none"
    for k in (0, 1):
        called = probs[:, k] >= probs[:, [k]]  # a row a threshold
        f1 = 2 * (called & (shown[:, k] == 1)).sum(1) / (called.sum(1) + shown[:, k].sum())
        assert chosen[k] in probs[f1 == f1.max(), k]


def test_the_neighbours_share_of_a_finding(roots):
    data = ImageDataset("phantom", np.arange(40), image_size=16, target="findings")
    own, images = neighbours_findings(data, data, neighbours=1), data.batch(range(40))["image"]
    copies = [int(np.flatnonzero((images == image).flatten(1).all(1))[0]) for image in images]
    assert (own == data.labels.numpy()[copies]).mean() > 0.95, "the nearest image is the image itself"
    assert np.allclose(neighbours_findings(data, data, neighbours=40), data.labels.numpy().mean(0))


def test_folds_are_not_ranked_against_each_other_and_rates_of_all_patients_have_exact_limits():
    """Two folds of 8 and 4 images, every image a patient; the scores of the second lie higher, as another network's
    may: all 4·4 pairs of the first fold are ranked right, 1 of the 1·3 of the second."""
    shown, fold = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]), np.repeat([0, 1], [8, 4])
    score = np.array([5, 6, 7, 8, 1, 2, 3, 4, 2, 1, 3, 4]) / 10.0 + 0.9 * fold
    table = pd.DataFrame({"group": np.arange(12), "y_a": shown, "p_a": score, "called_a": shown})
    found = evaluate_findings(table, ("a",), resamples=200, fold=fold)
    a = found["per_class"]["a"]
    assert a["auc"]["value"] == pytest.approx(17 / 19, abs=1e-6), "weighted by pairs"
    assert found["metrics"]["macro_auc"] == a["auc"]
    assert evaluate_findings(table, ("a",), resamples=20)["per_class"]["a"]["auc"]["value"] < 0.8, "across folds"
    one = evaluate_findings(table[:8], ("a",), resamples=20, fold=fold[:8])
    assert one == evaluate_findings(table[:8], ("a",), resamples=20), "a single fold changes nothing"
    limits = {"sensitivity": (a, 5), "specificity": (a, 7), "precision": (a, 5), "f1": (a, 5)}
    for metric, (of, patients) in (limits | {"auc": (one["per_class"]["a"], 4)}).items():
        assert of[metric] == {"value": 1, "low": pytest.approx(0.025 ** (1 / patients), abs=1e-6), "high": 1}
