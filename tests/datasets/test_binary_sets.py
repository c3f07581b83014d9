"""Tumour or none: the archives of navoneel and Br35H, and what is tested on them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from collections_made import BR35H, TWICE, bring, image, made, saved
from real_archives import real_archive

from datasets import download
from datasets.catalog import REPO, DataError, get
from datasets.splitting import make_split, overlap_file
from datasets.store import index, manifest
from datasets.store.index import SPLITS, read_manifest
from utils.evaluation.classification import evaluate, run_table
from utils.run import Run
from utils.training.data import load_data

DATA = (REPO / "datasets/README.md").read_text()


@pytest.mark.parametrize(("name", "files", "images"), [("navoneel", TWICE, 7), ("br35h", BR35H, 6)])
def test_the_archives_of_the_binary_sets_come_in(name, files, images, root, tmp_path):
    assert bring(name, saved(tmp_path, files)) == 0
    table = read_manifest(name)
    assert len(table) == images and set(table.label) == {"tumour", "notumor"} == set(get(name).classes)
    assert (table.label.eq("tumour") == table.path.str.startswith("yes/")).all()
    assert (table.published_split == "").all()


def test_the_two_binary_sets_are_told_apart_by_their_file_names(root, tmp_path, capsys):
    assert bring("br35h", saved(tmp_path, TWICE)) == 1
    assert "this is not br35h, it looks like navoneel" in capsys.readouterr().err
    assert bring("navoneel", saved(tmp_path, BR35H)) == 1
    assert "this is not navoneel, it looks like br35h" in capsys.readouterr().err


def test_a_second_copy_of_a_file_must_be_the_same(root, tmp_path, capsys):
    other = TWICE | {"brain_tumor_dataset/yes/Y1.jpg": image(99)}
    assert bring("navoneel", saved(tmp_path, other)) == 1
    assert "holds yes/Y1.jpg twice, with other content" in capsys.readouterr().err


def test_nothing_is_trained_or_chosen_on_navoneel(root, tmp_path):
    assert bring("navoneel", saved(tmp_path, TWICE)) == 0
    for protocol in ("patient", "random", "published"):
        with pytest.raises(DataError, match="'navoneel' is for testing only: train on another set, with split='ext"):
            make_split("navoneel", protocol)
    with pytest.raises(DataError, match="'navoneel' is for testing only"):
        make_split("navoneel", "external", test_on="phantom")


@pytest.fixture
def beside_phantom(roots, tmp_path, monkeypatch):
    """The small phantom to train on, navoneel beside it with one related image, and their overlap table."""
    data = tmp_path / "both"
    data.mkdir()
    (data / "phantom").symlink_to(Path(os.environ["BRAIN_MRI_DATA"]) / "phantom")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(data))
    made("navoneel", tmp_path, "--crop", "none")
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
    probabilities = np.full((252, len(data.classes)), 1 / len(data.classes))
    table = run_table(data, probabilities)
    assert (table.p_tumour - (0.75 if target == "label" else 0.5)).abs().max() < 1e-9
    assert set(table.label) == {"notumor", "tumour"}
    found = evaluate(table, data.test_classes, resamples=10)
    assert found["per_class"]["tumour"]["images"] == 155
    few = table[table.label.eq("tumour") | (table.groupby("label").cumcount() < 3)]
    found = evaluate(few, data.test_classes, resamples=10)
    assert found["metrics"]["tumour_specificity"]["value"] is None, "three healthy images say nothing"


def test_an_external_set_must_be_cropped_by_the_same_rule(beside_phantom):
    run = Run(dataset="phantom", split="external", test_on="navoneel", image_size=32)
    assert len(load_data(run).test) == 252
    assert download.main(["navoneel", "--crop", "s2", "--workers", "1"]) == 0
    with pytest.raises(DataError, match=r"cropped by 's2' and 'phantom' by 'none'.*download.py navoneel --crop none"):
        load_data(run)


def test_what_navoneel_adds_is_almost_only_tumours():
    table = pd.read_csv(SPLITS / "navoneel.csv", dtype=str)
    shared = pd.read_csv(SPLITS / overlap_file("brain-tumor-mri", "navoneel"))
    left = table[~table.path.isin(shared.path[shared.dataset == "navoneel"])]
    counts = left.label.value_counts()
    assert counts["notumor"] == 2 and 132 <= counts["tumour"] <= 136
    assert f"Of `navoneel`, {len(left)} images are not related" in DATA and "only two of them without a tumour" in DATA


@pytest.mark.real
def test_the_real_archive_of_navoneel(root, capsys):
    assert download.main(["navoneel", "--archive", str(real_archive("navoneel"))]) == 0
    assert capsys.readouterr().err == "", "no broken image, no count that differs"
    assert download.main(["navoneel", "--check"]) == 0
    table = read_manifest("navoneel")
    known = manifest.originals("navoneel")
    assert len(known) == len(table) == 253
    assert all(known[path]["sha256"] == sha for path, sha in zip(table.path, table.sha256, strict=True))
