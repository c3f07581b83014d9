"""What is asked of an image: class, tumour or none, type, sequence; cards of the sets, and what is only tested on."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import TWICE, bring, saved, under_their_names

from datasets import download
from datasets.catalog import CATALOG, DataError, get
from datasets.labels import classes_of, external_target, viewed
from datasets.splitting import make_split, overlap_file
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation.classification import evaluate, run_table
from utils.report import probes
from utils.run import Run
from utils.training.data import load_data


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_has_a_card(name, root, capsys):
    assert download.main(["--card", name]) == 0
    shown, facts = capsys.readouterr().out, get(name)
    squeezed = " ".join(shown.split())
    for text in (facts.title, facts.url, facts.licence, facts.citation, *facts.faults):
        assert " ".join(text.split()) in squeezed
    assert facts.faults or name == "own", "no data set is without faults"
    assert not facts.counts or f"{facts.images:,} as published" in shown
    assert ("testing only" in shown) == facts.test_only and not root.exists(), "a card needs no data"


def test_labels_are_seen_as_a_target_asks():
    labels = pd.Series(["glioma", "notumor", "Meningioma T1C+", "notumor T2"])
    assert viewed(labels, "label").tolist() == labels.tolist()
    assert viewed(labels, "tumour").tolist() == ["tumour", "notumor", "tumour", "notumor"]
    assert viewed(labels, "type").tolist() == ["glioma", "notumor", "Meningioma", "notumor"]
    assert viewed(labels, "sequence").tolist() == ["", "", "T1C+", "T2"]
    assert classes_of("brain-tumor-mri", "tumour") == classes_of("navoneel") == ("notumor", "tumour")
    numbers = [len(classes_of("brain-tumor-44c", target)) for target in ("label", "tumour", "type", "sequence")]
    assert numbers == [44, 2, 15, 3] and get("brain-tumor-44c").images == 4478
    for target, name in (("sequence", "sartaj"), ("tumour", "cheng")):
        with pytest.raises(DataError, match=f"target='{target}': the labels of '{name}' do not tell"):
            classes_of(name, target)


def test_a_set_of_tumour_or_none_asks_no_more():
    assert external_target("brain-tumor-mri", "sartaj") == "label"
    assert external_target("brain-tumor-mri", "navoneel") == external_target("br35h", "brain-tumor-mri") == "tumour"
    assert external_target("brain-tumor-mri", "navoneel", "tumour") == "tumour"
    assert external_target("brain-tumor-mri", "brain-tumor-44c") == "tumour"
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        external_target("cheng", "navoneel")


def test_a_dataset_reads_its_images_under_a_target(roots):
    rows = np.arange(len(read_manifest("phantom")))
    four, two = (ImageDataset("phantom", rows, image_size=32, target=t) for t in ("label", "tumour"))
    assert two.classes == ("notumor", "tumour")
    assert ((four.labels != four.classes.index("notumor")) == (two.labels == 1)).all()


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
    table = run_table(data, np.tile([0.1, 0.2, 0.4, 0.3] if target == "label" else [0.4, 0.6], (252, 1)))
    assert np.allclose(table[["p_notumor", "p_tumour"]], [0.4, 0.6]), "all tumours together"
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
