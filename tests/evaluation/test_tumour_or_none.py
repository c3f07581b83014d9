"""Tumour or none at the threshold that validation chose; a rate of too few images is not reported."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.classification import FEWEST, evaluate
from utils.evaluation.thresholds import tumour_or_none
from utils.report.tables.classification import external_tests


def predictions(tumours: int, healthy: int, seed: int = 0) -> pd.DataFrame:
    """Scores that overlap, two images a group."""
    rng = np.random.default_rng(seed)
    score = np.clip(np.concatenate([rng.normal(0.7, 0.2, tumours), rng.normal(0.3, 0.2, healthy)]), 0, 1)
    label = np.repeat(["tumour", "notumor"], [tumours, healthy])
    return pd.DataFrame({"label": label, "group": np.arange(len(label)) // 2, "p_notumor": 1 - score})


def test_tumour_or_none_by_hand():
    table = predictions(40, 60)
    found = tumour_or_none(table, threshold=0.5, resamples=200)
    called, sick = table.p_notumor <= 0.5, table.label == "tumour"
    assert found["sensitivity"]["value"] == pytest.approx(called[sick].mean(), abs=1e-6)
    assert found["specificity"]["value"] == pytest.approx(1 - called[~sick].mean(), abs=1e-6)
    pairs = table.p_notumor[sick].to_numpy()[:, None] < table.p_notumor[~sick].to_numpy()
    assert found["auc"]["value"] == pytest.approx(pairs.mean(), abs=1e-6)
    assert all(found[n]["low"] < found[n]["value"] < found[n]["high"] for n in ("sensitivity", "specificity", "auc"))
    assert (found["tumours"], found["healthy"], found["threshold"]) == (40, 60, 0.5)


def test_no_false_alarm_among_few_patients_is_no_certainty():
    """74 images of 37 patients without a tumour, none called; the score separates them from 20 patients with one."""
    table = predictions(40, 74).assign(p_notumor=np.repeat([0.1, 0.9], [40, 74]))
    found = tumour_or_none(table, threshold=0.5, resamples=20)
    for name, patients in {"sensitivity": 20, "specificity": 37, "auc": 20}.items():
        assert found[name] == {"value": 1, "low": pytest.approx(0.025 ** (1 / patients), abs=1e-6), "high": 1}
    entry = evaluate(table.assign(p_tumour=1 - table.p_notumor, predicted=table.label), ("notumor", "tumour"), 20)
    assert entry["metrics"]["tumour_specificity"] == found["specificity"]


def test_a_rate_on_two_images_is_not_reported():
    found = tumour_or_none(predictions(134, 2), threshold=0.5, resamples=20)
    assert found["sensitivity"]["value"] is not None
    assert found["specificity"]["value"] is None and found["auc"]["value"] is None
    enough = tumour_or_none(predictions(134, FEWEST), threshold=0.5, resamples=20)
    assert enough["specificity"]["value"] is not None and enough["auc"]["value"] is not None
    unchosen = tumour_or_none(predictions(40, 60), threshold=np.nan, resamples=20)
    assert unchosen["threshold"] is None and unchosen["sensitivity"]["value"] is None
    assert unchosen["auc"]["value"] is not None, "the AUC needs no threshold"


def test_the_table_of_external_tests_hides_what_two_images_say():
    rate = {"value": 0.5, "low": 0.2, "high": 0.8}
    record = {
        "run": {"dataset": "a", "test_on": "b", "split": "external", "model": "CustomCNN", "seed": 0, "image_size": 64},
        "metrics": {f"tumour_{n}": rate for n in ("sensitivity", "specificity", "auc")} | {"accuracy": rate},
        "per_class": {"tumour": {"images": 134}, "notumor": {"images": 2}},
    }
    shown = external_tests([record]).iloc[0]
    assert shown["test images"] == "134 tumour, 2 notumor" and shown["pixels"] == 64
    assert shown["tumour: sensitivity"] == "50.0 (20.0–80.0)"
    assert shown["tumour: specificity"] == shown["tumour: AUC"] == "–" and shown["model"] == "CustomCNN"
    outlines = {"task": "localisation", "run": record["run"] | {"recipe": "name-only", "seed": 1}}
    assert external_tests([record | outlines]).model.tolist() == ["CustomCNN, name-only, seed 1"]
