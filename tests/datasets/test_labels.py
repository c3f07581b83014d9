"""What is asked of an image (class, tumour or none, type, sequence), the sets that ask less, and their cards."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import TWICE, bring, saved, under_their_names

from datasets import download
from datasets.catalog import CATALOG, REPO, DataError, get
from datasets.labels import classes_of, external_target, united, viewed
from datasets.splitting import make_split, overlap_file
from datasets.store import index, manifest
from datasets.store.images import ImageDataset
from datasets.store.index import SPLITS, read_manifest
from utils.evaluation.classification import evaluate, run_table
from utils.run import Run
from utils.training.data import load_data

DATA = (REPO / "datasets/README.md").read_text()


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
    assert ("brain-tumor-mri and navoneel" in shown) == (name in ("navoneel", "brain-tumor-mri"))


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


def test_probabilities_of_all_tumours_are_added():
    probabilities = np.array([[0.1, 0.2, 0.4, 0.3], [0.5, 0.1, 0.1, 0.3]])
    found = united(probabilities, get("phantom").classes, "tumour", ("notumor", "tumour"))
    assert np.allclose(found, [[0.4, 0.6], [0.1, 0.9]])


def test_a_dataset_reads_its_images_under_a_target(roots):
    rows = np.arange(len(read_manifest("phantom")))
    four, two = (ImageDataset("phantom", rows, image_size=32, target=t) for t in ("label", "tumour"))
    assert two.classes == ("notumor", "tumour")
    assert ((four.labels != four.classes.index("notumor")) == (two.labels == 1)).all()


def test_a_random_split_takes_a_fifth_whatever_the_groups(roots):
    split = make_split("phantom", "random")
    total = len(read_manifest("phantom"))
    assert len(split.test) == -(-total // 5) and split.seen.mean() > 0.5
    assert sorted([*split.train_val, *split.test]) == list(range(total))
    assert np.array_equal(split.test, make_split("phantom", "random", seed=3).test)


# ---- navoneel, which is for testing alone ----------------------------------------------------------------


def test_nothing_is_trained_or_chosen_on_navoneel(root, tmp_path):
    assert bring("navoneel", saved(tmp_path, TWICE)) == 0
    for protocol in ("patient", "random", "published", "external"):
        with pytest.raises(DataError, match="'navoneel' is for testing only: train on another set, with split='ext"):
            make_split("navoneel", protocol, test_on="phantom" if protocol == "external" else "")


@pytest.mark.parametrize("target", ["label", "tumour"])
def test_a_model_of_four_classes_is_asked_tumour_or_none(target, roots, tmp_path, monkeypatch):
    """The small phantom to train on, navoneel beside it with one related image, and their overlap table."""
    (tmp_path / "both").mkdir()
    (tmp_path / "both/phantom").symlink_to(Path(os.environ["BRAIN_MRI_DATA"]) / "phantom")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "both"))
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits/overlap").mkdir(parents=True)
    related = pd.DataFrame({"dataset": ["navoneel"], "path": ["no/no.jpg"], "kind": ["bytes"]})
    related.to_csv(tmp_path / "splits" / overlap_file("phantom", "navoneel"), index=False)
    assert bring("navoneel", saved(tmp_path, under_their_names("navoneel")), "--crop", "none", "--size", "32") == 0
    run = Run(dataset="phantom", split="external", test_on="navoneel", image_size=32, target=target)
    data = load_data(run)
    assert data.classes == (get("phantom").classes if target == "label" else ("notumor", "tumour"))
    assert data.test_classes == ("notumor", "tumour") == data.test.classes
    assert len(data.test) == 252 and data.test.labels.sum() == 155, "the related image is left out"
    table = run_table(data, np.full((252, len(data.classes)), 1 / len(data.classes)))
    assert (table.p_tumour - (0.75 if target == "label" else 0.5)).abs().max() < 1e-9
    assert set(data.labels["test"]) == set(table.label) == {"notumor", "tumour"}
    assert evaluate(table, data.test_classes, resamples=10)["per_class"]["tumour"]["images"] == 155
    few = table[table.label.eq("tumour") | (table.groupby("label").cumcount() < 3)]
    specificity = evaluate(few, data.test_classes, resamples=10)["metrics"]["tumour_specificity"]
    assert specificity["value"] is None, "three healthy images say nothing"
    assert download.main(["navoneel", "--crop", "s2", "--workers", "1"]) == 0
    with pytest.raises(DataError, match=r"cropped by 's2' and 'phantom' by 'none'.*download.py navoneel --crop none"):
        load_data(run)


# ---- what the committed tables and the guide say ---------------------------------------------------------


def test_the_committed_groups_of_the_44_classes_are_the_known_ones():
    table = pd.read_csv(SPLITS / "brain-tumor-44c.csv", dtype=str, keep_default_na=False)
    facts = json.loads((SPLITS / "facts.json").read_text())["brain-tumor-44c"]
    assert table.groupby("group").fold.nunique().max() == 1 and sorted(table.fold.unique()) == list("01234")
    assert facts["groups"] == table.group.nunique() == pytest.approx(1502, abs=15)
    assert facts["largest group"] == pytest.approx(123, abs=10)
    assert facts["1-NN on thumbnails, random split, accuracy"] == pytest.approx(0.877, abs=0.03)
    assert facts["1-NN on thumbnails, patient split, accuracy"] == pytest.approx(0.357, abs=0.03)
    assert set(table.path) == set(manifest.originals("brain-tumor-44c"))


@pytest.mark.parametrize("name", ["brain-tumor-44c", "navoneel"])
def test_the_guide_says_what_a_set_adds_to_the_7023(name):
    table = pd.read_csv(SPLITS / f"{name}.csv", dtype=str)
    shared = pd.read_csv(SPLITS / overlap_file("brain-tumor-mri", name))
    left = table[~table.path.isin(shared.path[shared.dataset == name])]
    healthy = viewed(left.label, "tumour").eq("notumor").sum()
    if name == "navoneel":
        assert healthy == 2 and 132 <= len(left) - healthy <= 136
        assert f"Of `navoneel`, {len(left)} images are not related" in DATA and "only two of them without a tu" in DATA
    else:
        assert healthy > 300 and len(left) - healthy > 3000
        assert f"adds {healthy} images without a tumour and {len(left) - healthy:,} with one" in DATA
