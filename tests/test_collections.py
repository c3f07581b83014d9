"""The further collections: their archives as published, their cards, and tumour or none on what another set adds."""

import io
import json
import os
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import real_archive
from PIL import Image

from datasets import download
from datasets.catalog import CATALOG, REPO, DataError, get
from datasets.curation.duplicates import alike_pairs
from datasets.curation.thumbnails import Thumbnails
from datasets.labels import classes_of, external_target, united, viewed
from datasets.splitting import make_split, overlap_file
from datasets.store import index, manifest
from datasets.store.images import ImageDataset
from datasets.store.index import SPLITS, read_manifest
from utils.evaluation.classification import FEWEST, evaluate, run_table
from utils.evaluation.screening import tumour_or_none
from utils.reporting import figures, probes
from utils.reporting.records import Evidence
from utils.reporting.runs import Run
from utils.reporting.tables import BLOCKS
from utils.reporting.tables.classification import external_tests
from utils.training.data import load_data

DATA = (REPO / "datasets/README.md").read_text()


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
    """`download.py` in this process, on one core; of a few images, which are a part of the published set."""
    words = ["--archive", str(archive), "--workers", "1", "--size", "64", "--partial"]
    return download.main([name, *words, *options])


FORMATS = {".png": "PNG", "webp": "WEBP"}


def made(name: str, folder: Path, *options: str) -> None:
    """Bring a whole data set in with images made here under the publisher's names: the committed tables then say who
    is related to whom.
    """
    paths = list(manifest.originals(name))
    files = {path: picture(i, FORMATS.get(path[-4:], "JPEG")) for i, path in enumerate(paths)}
    assert bring(name, saved(folder / name, files), *options) == 0


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


# ---- the 44 classes ------------------------------------------------------------------------------------

FOLDERS = get("brain-tumor-44c").folders


def many(each: int = 2) -> dict[str, bytes]:
    """An archive of the 44 folders, one file a `.webp` as there is one."""
    files = {f"{folder}/{i}.jpeg": picture(100 * k + i) for k, folder in enumerate(FOLDERS) for i in range(each)}
    return files | {"Astrocitoma T1C+/x_big_gallery.webp": picture(9999, "WEBP")}


def test_the_44_folders_come_in_and_are_asked_in_four_ways(root, tmp_path):
    assert len(FOLDERS) == len(classes_of("brain-tumor-44c")) == 44 and get("brain-tumor-44c").images == 4478
    assert bring("brain-tumor-44c", saved(tmp_path, many())) == 0
    table = read_manifest("brain-tumor-44c")
    assert len(table) == 89 and set(table.label) == set(classes_of("brain-tumor-44c"))
    assert table.label[table.path.str.startswith("_NORMAL T2/")].eq("notumor T2").all()
    assert {t: len(classes_of("brain-tumor-44c", t)) for t in ("tumour", "type", "sequence")} == {
        "tumour": 2,
        "type": 15,
        "sequence": 3,
    }
    with pytest.raises(DataError, match=r"it is of the whole set, and 89 of 4478 images"):
        make_split("brain-tumor-44c", "patient")


def test_baselines_and_probes_are_made_at_random_where_nobody_is_named(monkeypatch):
    table = pd.DataFrame({"published_split": ["", ""], "patient": ["", ""]})
    for patient, split, first in (("", "", "random"), ("anna", "", "patient"), ("", "test", "published")):
        changed = table.assign(patient=patient, published_split=split)
        monkeypatch.setattr(probes, "read_manifest", lambda name, changed=changed: changed)
        assert probes.splits_of("brain-tumor-44c")[0]["split"] == first


def test_a_random_split_takes_a_fifth_whatever_the_groups(roots):
    split = make_split("phantom", "random")
    total = len(read_manifest("phantom"))
    assert len(split.test) == -(-total // 5) and split.seen.mean() > 0.5
    assert sorted([*split.train_val, *split.test]) == list(range(total))
    assert np.array_equal(split.test, make_split("phantom", "random", seed=3).test)


def test_alike_images_are_grouped_by_the_rule_of_the_set():
    base = np.random.default_rng(0).normal(size=(6, 64 * 64)).astype(np.float32)
    base[1] = base[0] + 0.4 * base[1]  # correlation .93 with the first
    base -= base.mean(1, keepdims=True)
    whole = (base / np.linalg.norm(base, axis=1, keepdims=True)).reshape(6, 64, 64)
    found = Thumbnails(pd.DataFrame({"path": range(6)}), whole, np.zeros((6, 8), np.uint64), whole[:, ::2, ::2] * 0)
    assert list(zip(*alike_pairs(found, 0.9, "whole"), strict=True)) == [(0, 1)]
    assert not len(alike_pairs(found, 0.99, "whole")[0]) and not len(alike_pairs(found, 0.5)[0])


def test_the_committed_groups_of_the_44_classes_are_the_known_ones():
    table = pd.read_csv(SPLITS / "brain-tumor-44c.csv", dtype=str, keep_default_na=False)
    facts = json.loads((SPLITS / "facts.json").read_text())["brain-tumor-44c"]
    assert table.groupby("group").fold.nunique().max() == 1 and sorted(table.fold.unique()) == list("01234")
    assert facts["groups"] == table.group.nunique() == pytest.approx(1502, abs=15)
    assert facts["largest group"] == pytest.approx(123, abs=10)
    assert facts["1-NN on thumbnails, random split, accuracy"] == pytest.approx(0.877, abs=0.03)
    assert facts["1-NN on thumbnails, patient split, accuracy"] == pytest.approx(0.357, abs=0.03)
    assert set(table.path) == set(manifest.originals("brain-tumor-44c"))


def test_the_44_classes_give_the_7023_an_independent_specificity():
    table = pd.read_csv(SPLITS / "brain-tumor-44c.csv", dtype=str)
    shared = pd.read_csv(SPLITS / overlap_file("brain-tumor-mri", "brain-tumor-44c"))
    left = table[~table.path.isin(shared.path[shared.dataset == "brain-tumor-44c"])]
    healthy = viewed(left.label, "tumour").eq("notumor").sum()
    assert healthy > 300 and len(left) - healthy > 3000
    assert f"adds {healthy} images without a tumour and {len(left) - healthy:,} with one" in DATA
    assert external_target("brain-tumor-mri", "brain-tumor-44c") == "tumour"


def test_top_k_of_many_classes_by_hand():
    classes = [f"c{i}" for i in range(6)]
    ranked = np.array([[0.4, 0.3, 0.2, 0.06, 0.03, 0.01]] * 3)
    table = pd.DataFrame({"label": ["c0", "c2", "c5"], "predicted": ["c0"] * 3, "group": [0, 1, 2]})
    table = table.assign(**{f"p_{c}": ranked[:, i] for i, c in enumerate(classes)})
    found = evaluate(table, classes, resamples=10)["metrics"]
    values = [found[n]["value"] for n in ("accuracy", "top3_accuracy", "top5_accuracy")]
    assert values == pytest.approx([1 / 3, 2 / 3, 2 / 3], abs=1e-6)
    assert "top3_accuracy" not in evaluate(table[:1], classes[:4], resamples=2)["metrics"]


@pytest.mark.parametrize("number", [4, 44])
def test_figures_of_few_and_of_many_classes(number):
    classes = [f"class {i}" for i in range(number)]
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, number - 1, 300), rng.dirichlet(np.ones(number), 300)  # the last never occurs
    table = pd.DataFrame({"label": np.array(classes)[truth], "predicted": np.array(classes)[scores.argmax(1)]})
    table = table.assign(**{f"p_{c}": scores[:, i] for i, c in enumerate(classes)})
    assert len(figures.confusion(table, classes).axes[0].texts) == (16 if number == 4 else 0)
    curves = figures.roc(table, classes).axes[0]
    assert len(curves.lines) == number - 1 + 1, "a curve a class that occurs, and the diagonal"
    assert bool(curves.get_legend()) == (number == 4)
    figures.class_counts({"train": table.label, "test": table.label}, classes)
    plt.close("all")


def test_s4s_table_says_what_was_not_run_and_why():
    none = Evidence(Path(), [], [])
    shown = BLOCKS["s4"](none)
    assert shown[["network", "asked"]].iloc[0].tolist() == ["ResNetRS152", "all classes"]
    assert shown["accuracy %: reported"].iloc[:2].tolist() == ["94.0", "96.0"]
    named = shown[shown["accuracy %: reported"] != "–"]
    assert len(named) == 6 and named.remark.str.startswith("not run here: ").all()
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    run = {"dataset": "brain-tumor-44c", "split": "random", "fold": 0, "recipe": "s4", "image_size": 224, "seed": 0}
    run |= {"pretrained": True, "test_on": ""}
    records = [
        {"id": m, "task": "transfer", "run": run | {"model": m}, "metrics": {"accuracy": entry}, "images": 896}
        | {"training": {"epochs": 80, "seconds": 600}}
        for m in ("EfficientNetV2-B1", "SqueezeNet")
    ]
    patient = records[0] | {"id": "x", "run": records[0]["run"] | {"split": "patient", "fold": None}}
    shown = BLOCKS["s4"](Evidence(Path(), [*records, patient], [])).set_index(["network", "asked"])
    ours = shown.loc[("EfficientNetV2-B1", "all classes")]
    assert ours["accuracy %: ours"] == ours["accuracy %: ours, by patient or group"] == "50.0 (40.0–60.0)"
    assert ours.remark == "–" and ours["epochs, pixels"] == "80, 224"
    assert shown.loc[("SqueezeNet (not in the report)", "all classes"), "accuracy %: ours"] == "50.0 (40.0–60.0)"


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_real_archive_of_the_44_classes(root, capsys):
    assert download.main(["brain-tumor-44c", "--archive", str(real_archive("brain-tumor-44c")), "--size", "64"]) == 0
    assert capsys.readouterr().err == "", "no broken image, no count that differs"
    table, known = read_manifest("brain-tumor-44c"), manifest.originals("brain-tumor-44c")
    assert len(known) == len(table) == 4478 and table.sha256.duplicated().sum() == 36
    for protocol in ("random", "patient"):
        assert len(make_split("brain-tumor-44c", protocol).test) > 800


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
