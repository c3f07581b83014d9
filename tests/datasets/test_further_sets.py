"""Tumour or none, which navoneel asks: what is tested on it, and that nothing is trained on it."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import TWICE, bring, saved, under_their_names

from datasets import download
from datasets.catalog import DataError, get
from datasets.splitting import make_split, overlap_file
from datasets.store import index
from utils.evaluation.classification import evaluate, run_table
from utils.report import probes
from utils.run import Run
from utils.training.data import load_data


def test_nothing_is_trained_or_chosen_on_navoneel(root, tmp_path):
    assert bring("navoneel", saved(tmp_path, TWICE)) == 0
    for protocol, test_on in (("patient", ""), ("random", ""), ("published", ""), ("external", "phantom")):
        with pytest.raises(DataError, match="'navoneel' is for testing only: train on another set, with split='ext"):
            make_split("navoneel", protocol, test_on=test_on)


@pytest.fixture
def beside_phantom(roots, tmp_path, monkeypatch):
    """The small phantom to train on, navoneel beside it with one related image, and their overlap table."""
    data = tmp_path / "both"
    data.mkdir()
    (data / "phantom").symlink_to(Path(os.environ["BRAIN_MRI_DATA"]) / "phantom")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(data))
    assert bring("navoneel", saved(tmp_path, under_their_names("navoneel")), "--crop", "none", "--size", "32") == 0
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    table = pd.DataFrame({"dataset": ["navoneel"], "path": ["no/no.jpg"], "kind": ["bytes"]})
    (tmp_path / "splits/overlap").mkdir(parents=True)
    table.to_csv(tmp_path / "splits" / overlap_file("phantom", "navoneel"), index=False)


@pytest.mark.parametrize("target", ["label", "tumour"])
def test_a_model_of_four_classes_is_asked_tumour_or_none(beside_phantom, target):
    data = load_data(Run(dataset="phantom", split="external", test_on="navoneel", image_size=32, target=target))
    assert data.classes == (get("phantom").classes if target == "label" else ("notumor", "tumour"))
    assert data.test_classes == ("notumor", "tumour") == data.test.classes
    assert len(data.test) == 252 and data.test.labels.sum() == 155, "the related image is left out"
    assert set(data.labels["test"]) == {"notumor", "tumour"}
    table = run_table(data, np.full((252, len(data.classes)), 1 / len(data.classes)))
    assert (table.p_tumour - (0.75 if target == "label" else 0.5)).abs().max() < 1e-9
    few = table[table.label.eq("tumour") | (table.groupby("label").cumcount() < 3)]
    found = evaluate(few, data.test_classes, resamples=10)
    assert found["metrics"]["tumour_specificity"]["value"] is None, "three healthy images say nothing"


def test_an_external_set_must_be_cropped_by_the_same_rule(beside_phantom):
    run = Run(dataset="phantom", split="external", test_on="navoneel", image_size=32)
    assert len(load_data(run).test) == 252
    assert download.main(["navoneel", "--crop", "s2", "--workers", "1"]) == 0
    with pytest.raises(DataError, match=r"cropped by 's2' and 'phantom' by 'none'.*download.py navoneel --crop none"):
        load_data(run)


def test_baselines_and_probes_are_made_at_random_where_nobody_is_named(monkeypatch):
    for patient, split, first in (("", "", "random"), ("anna", "", "patient"), ("", "test", "published")):
        table = pd.DataFrame({"published_split": [split] * 2, "patient": [patient] * 2})
        monkeypatch.setattr(probes, "read_manifest", lambda name, table=table: table)
        assert probes.splits_of("brain-tumor-44c")[0]["split"] == first
