"""Tumour or none (navoneel, Br35H) and the 44 classes: archives, targets, random splits, what is tested on them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from collections_made import BR35H, FOLDERS, TWICE, bring, image, made, many, saved
from real_archives import real_archive

from datasets import download
from datasets.catalog import DataError, get
from datasets.labels import classes_of
from datasets.splitting import make_split, overlap_file
from datasets.store import index, manifest
from datasets.store.index import read_manifest
from utils.evaluation.classification import evaluate, run_table
from utils.report import probes
from utils.run import Run
from utils.training.data import load_data


@pytest.mark.parametrize(("name", "files", "images"), [("navoneel", TWICE, 7), ("br35h", BR35H, 6)])
def test_the_archives_of_the_binary_sets_come_in(name, files, images, root, tmp_path):
    assert bring(name, saved(tmp_path, files)) == 0
    table = read_manifest(name)
    assert len(table) == images and set(table.label) == {"tumour", "notumor"} == set(get(name).classes)
    assert (table.label.eq("tumour") == table.path.str.startswith("yes/")).all()
    assert (table.published_split == "").all()


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("br35h", TWICE, "this is not br35h, it looks like navoneel"),
        ("navoneel", BR35H, "this is not navoneel, it looks like br35h"),
        ("navoneel", TWICE | {"brain_tumor_dataset/yes/Y1.jpg": image(99)}, "holds yes/Y1.jpg twice, with other"),
    ],
)
def test_the_two_binary_sets_are_told_apart_and_copies_must_agree(name, files, message, root, tmp_path, capsys):
    assert bring(name, saved(tmp_path, files)) == 1
    assert message in capsys.readouterr().err


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
    table = run_table(data, np.full((252, len(data.classes)), 1 / len(data.classes)))
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


def test_the_44_folders_come_in_and_are_asked_in_four_ways(root, tmp_path):
    name = "brain-tumor-44c"
    assert len(FOLDERS) == len(classes_of(name)) == 44 and get(name).images == 4478
    assert bring(name, saved(tmp_path, many())) == 0
    table = read_manifest(name)
    assert len(table) == 89 and set(table.label) == set(classes_of(name))
    assert table.label[table.path.str.startswith("_NORMAL T2/")].eq("notumor T2").all()
    assert [len(classes_of(name, target)) for target in ("tumour", "type", "sequence")] == [2, 15, 3]
    with pytest.raises(DataError, match=r"it is of the whole set, and 89 of 4478 images"):
        make_split(name, "patient")


def test_baselines_and_probes_are_made_at_random_where_nobody_is_named(monkeypatch):
    for patient, split, first in (("", "", "random"), ("anna", "", "patient"), ("", "test", "published")):
        table = pd.DataFrame({"published_split": [split] * 2, "patient": [patient] * 2})
        monkeypatch.setattr(probes, "read_manifest", lambda name, table=table: table)
        assert probes.splits_of("brain-tumor-44c")[0]["split"] == first


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "images", "twice"), [("navoneel", 253, 25), ("brain-tumor-44c", 4478, 36)])
def test_the_real_archives_of_further_sets(name, images, twice, root, capsys):
    assert download.main([name, "--archive", str(real_archive(name)), "--size", "64"]) == 0
    assert capsys.readouterr().err == "", "no broken image, no count that differs"
    assert download.main([name, "--check"]) == 0
    table, known = read_manifest(name), manifest.originals(name)
    assert len(known) == len(table) == images and table.sha256.duplicated().sum() == twice
    assert all(known[path]["sha256"] == sha for path, sha in zip(table.path, table.sha256, strict=True))
