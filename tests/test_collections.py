"""The further collections: their archives as published, their cards, and tumour or none on what another set adds."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import real_archive
from PIL import Image

from datasets import download
from datasets.catalog import CATALOG, DataError, get
from datasets.labels import classes_of, external_target, united, viewed
from datasets.splitting import make_split, overlap_file
from datasets.store import index, manifest
from datasets.store.images import ImageDataset
from datasets.store.index import SPLITS, read_manifest
from utils.evaluation.classification import FEWEST, evaluate, run_table
from utils.evaluation.screening import tumour_or_none
from utils.reporting.runs import Run
from utils.reporting.tables.classification import external_tests
from utils.training.data import load_data


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def picture(seed: int, kind: str = "JPEG", mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(60, 255, (48, 40), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def saved(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "archive.zip"


def bring(name: str, archive: Path, *options: str) -> int:
    return download.main([name, "--archive", str(archive), "--workers", "1", "--size", "64", *options])


# ---- tumour or none ------------------------------------------------------------------------------------

NAVONEEL = {
    "yes/Y1.jpg": picture(0),
    "yes/Y10.JPG": picture(1, mode="RGB"),
    "yes/Y3.png": picture(2, "PNG", "RGBA"),
    "no/1 no.jpeg": picture(3),
    "no/no 4.jpg": picture(4),
    "no/N15.jpg": picture(5),
    "no/no.jpg": picture(6),
}
TWICE = NAVONEEL | {f"brain_tumor_dataset/{path}": content for path, content in NAVONEEL.items()}
BR35H = {f"{folder}/{stem}{i}.jpg": picture(10 * i) for folder, stem in (("yes", "y"), ("no", "no")) for i in range(3)}
BR35H |= {"pred/pred0.jpg": picture(7), "Br35H-Mask-RCNN/TRAIN/y1.jpg": picture(8)}


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
    other = TWICE | {"brain_tumor_dataset/yes/Y1.jpg": picture(99)}
    assert bring("navoneel", saved(tmp_path, other)) == 1
    assert "holds yes/Y1.jpg twice, with other content" in capsys.readouterr().err


def test_nothing_is_trained_or_chosen_on_navoneel(root, tmp_path):
    assert bring("navoneel", saved(tmp_path, TWICE)) == 0
    for protocol in ("patient", "random", "published"):
        with pytest.raises(DataError, match="'navoneel' is for testing only: train on another set, with split='ext"):
            make_split("navoneel", protocol)
    with pytest.raises(DataError, match="'navoneel' is for testing only"):
        make_split("navoneel", "external", test_on="phantom")


def test_labels_are_seen_as_a_target_asks():
    labels = pd.Series(["glioma", "notumor", "Meningioma T1C+", "notumor T2"])
    assert viewed(labels, "label").tolist() == labels.tolist()
    assert viewed(labels, "tumour").tolist() == ["tumour", "notumor", "tumour", "notumor"]
    assert viewed(labels, "type").tolist() == ["glioma", "notumor", "Meningioma", "notumor"]
    assert viewed(labels, "sequence").tolist() == ["", "", "T1C+", "T2"]
    assert classes_of("brain-tumor-mri", "tumour") == classes_of("navoneel") == ("notumor", "tumour")
    with pytest.raises(DataError, match="target='sequence': the labels of 'sartaj' do not tell the MR sequence"):
        classes_of("sartaj", "sequence")
    with pytest.raises(DataError, match="target='tumour': the labels of 'cheng'"):
        classes_of("cheng", "tumour")


def test_a_set_of_tumour_or_none_asks_no_more():
    assert external_target("brain-tumor-mri", "sartaj") == "label"
    assert external_target("brain-tumor-mri", "navoneel") == external_target("br35h", "brain-tumor-mri") == "tumour"
    assert external_target("brain-tumor-mri", "navoneel", "tumour") == "tumour"
    with pytest.raises(DataError, match="'cheng' has no images without a tumour"):
        external_target("cheng", "navoneel")


def test_probabilities_of_all_tumours_are_added():
    probabilities = np.array([[0.1, 0.2, 0.4, 0.3], [0.5, 0.1, 0.1, 0.3]])
    found = united(probabilities, get("phantom").classes, "tumour", ("notumor", "tumour"))
    assert np.allclose(found, [[0.4, 0.6], [0.1, 0.9]])


@pytest.fixture
def beside_phantom(roots, tmp_path, monkeypatch):
    """The small phantom to train on, navoneel beside it with one related image, and their overlap table."""
    data = tmp_path / "both"
    data.mkdir()
    (data / "phantom").symlink_to(Path(os.environ["BRAIN_MRI_DATA"]) / "phantom")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(data))
    assert bring("navoneel", saved(tmp_path, TWICE)) == 0
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    table = pd.DataFrame({"dataset": ["navoneel"], "path": ["no/no.jpg"], "kind": ["bytes"]})
    (tmp_path / "splits/overlap").mkdir(parents=True)
    table.to_csv(tmp_path / "splits" / overlap_file("phantom", "navoneel"), index=False)


@pytest.mark.parametrize("target", ["label", "tumour"])
def test_a_model_of_four_classes_is_asked_tumour_or_none(beside_phantom, target):
    data = load_data(Run("phantom", "external", test_on="navoneel", image_size=32, target=target))
    assert data.classes == (get("phantom").classes if target == "label" else ("notumor", "tumour"))
    assert data.test_classes == ("notumor", "tumour") == data.test.classes
    assert len(data.test) == 6 and data.test.labels.sum() == 3, "the related image is left out"
    assert set(data.labels["test"]) == {"notumor", "tumour"}
    probabilities = np.full((6, len(data.classes)), 1 / len(data.classes))
    table = run_table(data, probabilities)
    assert (table.p_tumour - (0.75 if target == "label" else 0.5)).abs().max() < 1e-9
    assert set(table.label) == {"notumor", "tumour"}
    found = evaluate(table, data.test_classes, resamples=10)
    assert found["per_class"]["tumour"]["images"] == 3
    assert found["metrics"]["tumour_specificity"]["value"] is None, "three healthy images say nothing"


def test_a_dataset_reads_its_images_under_a_target(roots):
    rows = np.arange(len(read_manifest("phantom")))
    four, two = (ImageDataset("phantom", rows, image_size=32, target=t) for t in ("label", "tumour"))
    assert two.classes == ("notumor", "tumour")
    assert ((four.labels != four.classes.index("notumor")) == (two.labels == 1)).all()


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
        "run": {"dataset": "a", "test_on": "b", "split": "external", "model": "CustomCNN"},
        "metrics": {f"tumour_{n}": rate for n in ("sensitivity", "specificity", "auc")} | {"accuracy": rate},
        "per_class": {"tumour": {"images": 134}, "notumor": {"images": 2}},
    }
    shown = external_tests([record]).iloc[0]
    assert shown["test images"] == "134 tumour, 2 notumor"
    assert shown["tumour: sensitivity"] == "50.0 (20.0–80.0)"
    assert shown["tumour: specificity"] == shown["tumour: AUC"] == "–"


def test_what_navoneel_adds_is_almost_only_tumours():
    table = pd.read_csv(SPLITS / "navoneel.csv", dtype=str)
    shared = pd.read_csv(SPLITS / overlap_file("brain-tumor-mri", "navoneel"))
    left = table[~table.path.isin(shared.path[shared.dataset == "navoneel"])]
    counts = left.label.value_counts()
    assert counts["notumor"] == 2 and 132 <= counts["tumour"] <= 136


@pytest.mark.real
def test_the_real_archive_of_navoneel(root, capsys):
    assert download.main(["navoneel", "--archive", str(real_archive("navoneel"))]) == 0
    assert capsys.readouterr().err == "", "no broken image, no count that differs"
    assert download.main(["navoneel", "--check"]) == 0
    table = read_manifest("navoneel")
    known = manifest.originals("navoneel")
    assert len(known) == len(table) == 253
    assert all(known[path]["sha256"] == sha for path, sha in zip(table.path, table.sha256, strict=True))


# ---- cards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_has_a_card(name, root, capsys):
    assert download.main(["--card", name]) == 0
    shown, facts = capsys.readouterr().out, get(name)
    squeezed = " ".join(shown.split())
    for text in (facts.title, facts.url, facts.licence, facts.citation, *facts.faults):
        assert " ".join(text.split()) in squeezed
    assert facts.faults or name == "own", "no data set is without faults"
    if facts.counts:
        assert f"{facts.images:,} as published" in shown
    assert ("testing only" in shown) == facts.test_only
    assert not root.exists(), "a card needs no data"


def test_the_card_names_what_curation_counted(capsys):
    assert download.main(["--card", "navoneel"]) == 0
    assert "brain-tumor-mri and navoneel" in capsys.readouterr().out
