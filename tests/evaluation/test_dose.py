"""Dose and response: arms of equal size, and a planted dose that is found."""

import json

import numpy as np
import pandas as pd
import pytest

from datasets.splitting import Split
from datasets.store.index import read_manifest
from models.weights import WeightsError
from utils.evaluation import baselines
from utils.evaluation.dose import DOSES, FOLDS, arms, response
from utils.report.dose import main

LABELS = np.array(list("ab") * 60)
GROUPS = np.arange(120) // 4 // 2 * 2 + np.arange(120) % 2  # eight images a pair of patients, one of each class


def fold() -> Split:
    test, rest = np.flatnonzero(GROUPS < 6), np.flatnonzero(GROUPS >= 6)
    return Split(rest[:-10], rest[-10:], test, GROUPS, "x", GROUPS[test])


def test_arms_differ_in_the_dose_alone():
    test, drawn = arms(fold(), LABELS, np.random.default_rng(0))
    assert list(drawn) == list(DOSES) and set(GROUPS[test]) == {0, 1, 2, 3, 4, 5}
    for name, train in drawn.items():
        assert len(np.unique(train)) == len(train) == 96 and not set(train) & set(test)
        assert pd.Series(LABELS[train]).value_counts().tolist() == [48, 48], "as many of each class"
        seen = pd.Series(GROUPS[train]).value_counts().reindex(range(6), fill_value=0)
        assert (seen == {"0": 0, "1": 1, "2": 2, "4": 2, "all": 2}[name]).all(), "half of four images"
    with pytest.raises(ValueError, match="too few images of other patients"):
        arms(fold(), np.where(GROUPS < 6, "c", LABELS), np.random.default_rng(0))


def test_the_response_is_counted_by_groups_against_dose_0():
    rows = [(dose, group, 4, k) for k, dose in enumerate(DOSES) for group in range(20)]
    counts = pd.DataFrame(rows, columns=["dose", "group", "images", "right"])
    found = response(counts, "m").set_index("dose")
    assert [entry["value"] for entry in found.accuracy] == [0, 0.25, 0.5, 0.75, 1]
    assert found.gain["0"] is None and found.gain["2"].value == 0.5
    counts.loc[0, "images"] = 5
    with pytest.raises(ValueError, match="different images"):
        response(counts, "m")


def test_the_phantoms_planted_dose_is_found_by_the_command(roots, capsys):
    assert main(["phantom", "--draws", "1"]) == 0
    counts = pd.read_csv(roots / "saved_metrics/dose/phantom.1-NN.csv")
    found = response(counts, "1-NN").set_index("dose")
    assert found.gain["all"].low > 0
    assert response(counts, "1-NN", FOLDS).gain[1].value > 0, "folds drawn image by image give the dose as well"
    assert counts[counts.dose == FOLDS[1]].images.sum() == len(read_manifest("phantom")), "each image once"
    assert "phantom, 1-NN, dose all:" in capsys.readouterr().out


def test_a_network_is_trained_in_every_arm(roots, capsys):
    assert main(["phantom", "--method", "CustomCNN", "--draws", "1", "--folds", "1", "--epochs", "1"]) == 0
    counts = pd.read_csv(roots / "saved_metrics/dose/phantom.CustomCNN.csv")
    assert set(counts.dose) == set(DOSES) and counts.groupby("dose").images.sum().nunique() == 1
    record = json.loads((roots / "saved_metrics/dose/phantom.CustomCNN.json").read_text())
    assert (record["method"], record["folds"], record["epochs"]) == ("CustomCNN", 1, 1) and "backbone" not in record


def test_imagenet_stands_for_the_weights_of_the_hub(roots, monkeypatch):
    asked = {}

    def missing(name, **arguments):
        asked.update(arguments)
        raise WeightsError("none here")

    monkeypatch.setattr(baselines, "build_backbone", missing)
    assert main(["phantom", "--method", "probe"]) == 1 and asked["pretrained"] is True
