"""The committed split tables keep patients and groups apart, and hold the measured facts."""

import json

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from smooth_images import image, thumbnails_of

from datasets.catalog import CATALOG, REPO
from datasets.curation import __main__, split_table
from datasets.curation.split_table import curate
from datasets.splitting import FOLDS, grouped_folds, overlap_file
from datasets.store import index
from datasets.store.index import SPLITS, read_manifest

FACTS = json.loads((SPLITS / "facts.json").read_text())


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng"])
def test_committed_splits_separate_patients_and_groups(name):
    table = pd.read_csv(SPLITS / f"{name}.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == split_table.SPLIT_COLUMNS
    assert len(table) == CATALOG[name].images == table.path.nunique()
    assert table.groupby("group").fold.nunique().max() == 1
    assert table[table.patient != ""].groupby("patient").fold.nunique().max() == 1
    classes = set(CATALOG[name].classes)
    assert all(set(rows.label) == classes for _, rows in table.groupby("fold"))
    assert sorted(table.fold.unique()) == list("01234")
    published = table.groupby(["published_split", "label"]).size().to_dict()
    assert published == {(s, c): n for s, counts in CATALOG[name].counts.items() for c, n in counts.items()}


# (set, fact, value of FACTS, tolerance): counts that rest on pixels may shift, because images were reduced.
KNOWN = [
    ("brain-tumor-mri", "linked images", 4750, 0),
    ("brain-tumor-mri", "linked patients", 209, 0),
    ("brain-tumor-mri", "linked test images", 788, 0),
    ("brain-tumor-mri", "linked test images with their patient in training", 788, 0),
    ("brain-tumor-mri", "test images with a byte-identical training twin", 103, 0),
    ("brain-tumor-mri", "test images with a pixel-identical training twin", 216, 5),
    ("brain-tumor-mri", "removed by S0's rule", 1113, 0),
    ("sartaj", "removed by S0's rule", 435, 0),
    ("brain-tumor-mri", "groups", 663, 0),
    ("brain-tumor-mri", "largest group", 113, 0),
    ("sartaj", "test images with a byte-identical training twin", 88, 0),
    ("sartaj", "test images with a pixel-identical training twin", 251, 5),
    ("sartaj", "linked test images in a label conflict: pituitary", 10, 0),
    ("brain-tumor-mri", "1-NN on thumbnails, published split, accuracy", 0.963, 0.01),
    ("brain-tumor-mri", "1-NN on thumbnails, patient split, accuracy", 0.73, 0.02),
    ("sartaj", "1-NN on thumbnails, published split, accuracy", 0.769, 0.02),
]


@pytest.mark.parametrize(("name", "fact", "value", "tolerance"), KNOWN)
def test_measured_facts_are_the_known_ones(name, fact, value, tolerance):
    assert FACTS[name][fact] == pytest.approx(value, abs=tolerance)


def written(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj"])
def test_committed_cleaning_is_of_this_set_and_of_s0s_size(name):
    removed = pd.read_csv(SPLITS / f"s0/{name}.csv").path
    assert removed.isin(pd.read_csv(SPLITS / f"{name}.csv").path).all()
    assert len(removed) == removed.nunique() == FACTS[name]["removed by S0's rule"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("brain-tumor-mri", "sartaj"),
        ("brain-tumor-mri", "cheng"),
        ("sartaj", "cheng"),
        ("brain-tumor-mri", "navoneel"),
        ("brain-tumor-mri", "brain-tumor-44c"),
        ("brain-tumor-44c", "navoneel"),
    ],
)
def test_no_patient_and_no_group_crosses_to_an_external_test(a, b):
    shared = pd.read_csv(SPLITS / overlap_file(a, b))
    tables = {name: pd.read_csv(SPLITS / f"{name}.csv", dtype=str, keep_default_na=False) for name in (a, b)}
    left = {name: t[~t.path.isin(shared.path[shared.dataset == name])] for name, t in tables.items()}
    for mine, other in ((a, b), (b, a)):
        assert not set(left[mine].patient) & (set(tables[other].patient) - {""})
        lost = tables[mine][~tables[mine].path.isin(left[mine].path)]
        assert not set(lost.group) & set(left[mine].group), "what is grouped with a relative goes with it"


def test_committed_cleaning_removes_what_s0_reported_in_every_cell():
    removed = pd.read_csv(SPLITS / "s0/brain-tumor-mri.csv").path.str.extract(r"^(\w+)/(\w+)/")
    cells = {("Training", "notumor"): 627, ("Training", "pituitary"): 17, ("Training", "meningioma"): 16}
    cells |= {("Training", "glioma"): 3, ("Testing", "notumor"): 331, ("Testing", "meningioma"): 111}
    cells |= {("Testing", "pituitary"): 7, ("Testing", "glioma"): 1}
    assert removed.value_counts().to_dict() == cells


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng", "navoneel", "brain-tumor-44c"])
def test_a_group_that_splits_moves_no_row_but_its_own(name):
    table = pd.read_csv(SPLITS / f"{name}.csv", dtype=str, keep_default_na=False).astype({"fold": int})
    labels, groups = table.label.to_numpy(), table.group.to_numpy(dtype=object)
    assert grouped_folds(labels, groups, FOLDS, 0).tolist() == table.fold.tolist(), "the table is what the rule gives"
    moved = []
    for group in table.group.value_counts().index[:40]:
        changed, rows = groups.copy(), np.flatnonzero(groups == group)
        changed[rows[len(rows) // 2 :]] = "new"
        fold = grouped_folds(labels, changed, FOLDS, 0, split_table.kept_folds(table))
        moved.append(np.flatnonzero(fold != table.fold))
        assert set(moved[-1]) <= set(rows[len(rows) // 2 :])
    assert max(map(len, moved)) == FACTS[name]["most rows that move when a group splits in two"] < 0.05 * len(table)
    assert 0 < FACTS[name]["most rows that move then without the table made before"] < 0.07 * len(table)


def test_curating_again_keeps_the_folds_of_groups_that_did_not_change():
    images = [image(i) for i in range(20)]
    first = curate(thumbnails_of(images))
    again = curate(thumbnails_of([*images[:-1], images[0]]), before=first)
    assert again.group[19] == again.group[0] == first.group[0], "the last image has become a copy of the first"
    assert (again.fold[:-1] == first.fold[:-1]).all() and again.fold[19] == first.fold[0]


@pytest.mark.real
@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng"])
def test_no_image_has_one_alike_in_another_fold(real_sets, name):
    """Brute force over all pairs and all 8 transforms, without the code that made the tables."""
    table = pd.read_csv(SPLITS / f"{name}.csv", dtype=str).set_index("path").loc[read_manifest(name).path]
    fold = table.fold.to_numpy()
    with h5py.File(real_sets / name / "images.h5") as store:
        small = np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA) for image in store["image"][()]])
    turned = [
        np.ascontiguousarray(np.rot90(flipped, k, (1, 2))) for flipped in (small, small[:, :, ::-1]) for k in range(4)
    ]
    centred = [t.reshape(len(small), -1).astype(np.float32) for t in turned]
    for pixels in centred:
        pixels -= pixels.mean(1, keepdims=True)
        pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    crossing = 0
    for rows in np.array_split(np.arange(len(small)), len(small) // 500 + 1):  # one row at a time waits for memory
        likeness = np.max([centred[0][rows] @ pixels.T for pixels in centred], axis=0)
        crossing += int(((likeness >= 0.93) & (fold != fold[rows, None])).any(1).sum())
    assert crossing == 0


@pytest.mark.real
def test_the_real_archives_give_the_committed_tables(real_sets, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits").mkdir()
    assert __main__.main(["brain-tumor-mri", "sartaj", "cheng", "--write"]) == 0
    assert __main__.main(["brain-tumor-mri", "navoneel", "brain-tumor-44c", "--write"]) == 0
    made, committed = written(tmp_path / "splits"), written(SPLITS)
    assert sorted(made) == sorted(committed)
    assert [path for path in made if made[path] != committed[path]] == []


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng"])
def test_the_findings_of_the_chapter_are_of_the_committed_tables(name):
    found = json.loads((REPO / f"saved_metrics/curation/{name}.json").read_text())["facts"]
    assert found and found == {fact: FACTS[name][fact] for fact in found}, f"run chapter 1 on {name} again"
