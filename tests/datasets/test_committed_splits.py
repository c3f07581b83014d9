"""The committed split tables keep patients and groups apart, and hold the measured facts."""

import json

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from smooth_images import image, thumbnails_of

from datasets.catalog import CATALOG, REPO
from datasets.curation import __main__, command, copies, duplicates, split_table
from datasets.curation.split_table import curate
from datasets.curation.thumbnails import join, look
from datasets.splitting import FOLDS, copies_file, grouped_folds, overlap_file
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


def test_the_listed_copies_lie_in_two_folds_and_show_no_tumour():
    listed = pd.read_csv(SPLITS / copies_file("brain-tumor-mri"), dtype=str)
    table = pd.read_csv(SPLITS / "brain-tumor-mri.csv", dtype=str).set_index("path").loc
    assert list(listed.columns) == copies.COLUMNS and not listed.duplicated().any()
    for path, fold in (("path", "fold"), ("copy_path", "copy_fold")):
        assert table[listed[path]].fold.tolist() == listed[fold].tolist()
        assert set(table[listed[path]].label) == {"notumor"}
    assert (listed.fold != listed.copy_fold).all()
    assert copies.copy_facts(listed) == {copies.COPIED: 182, copies.COPIED_PAIRS: 347}
    counted = {
        name: {fact: facts[fact] for fact in copies.copy_facts(listed)}
        for name, facts in FACTS.items()
        if name in CATALOG
    }
    assert counted.pop("brain-tumor-mri") == copies.copy_facts(listed)
    assert {count for counts in counted.values() for count in counts.values()} == {0}
    assert [path.name for path in (SPLITS / "copies").iterdir()] == ["brain-tumor-mri.csv"]


def test_images_left_in_an_external_test_with_a_copy_are_counted():
    left = {(pair, entry): n for pair, facts in FACTS.items() for entry, n in facts.items() if copies.LEFT in entry}
    of_mri = f"brain-tumor-mri: {copies.LEFT}"
    some = {("brain-tumor-mri and sartaj", of_mri): 17, ("brain-tumor-mri and navoneel", of_mri): 22}
    assert len(left) == 12 and {pair: n for pair, n in left.items() if n} == some


@pytest.fixture
def changed_copy():
    """An image, a copy of it that correlates by .93 to .97, and another image; of different crops, as it were."""
    original, noise = (image(seed).astype(float) for seed in (0, 7))
    found = thumbnails_of([image(0), np.uint8(0.7 * original + 0.3 * noise), image(1)])
    found.hashes[1] = found.hashes[0]
    assert copies.COPY_CORRELATION < (found.thumbnails[0] * found.thumbnails[1]).sum() < duplicates.NEAR_CORRELATION
    return found


def test_a_changed_copy_is_listed_where_folds_separate_it(changed_copy):
    assert duplicates.duplicate_pairs(changed_copy).empty
    apart, together = ({"path": changed_copy.table.path, "fold": folds} for folds in ([3, 1, 3], [3, 3, 1]))
    found = copies.copy_pairs(changed_copy, pd.DataFrame(apart))
    assert found.to_numpy().tolist() == [["0.png", 3, "1.png", 1]]
    assert copies.copy_facts(found) == {copies.COPIED: 2, copies.COPIED_PAIRS: 1}
    assert copies.copy_pairs(changed_copy, pd.DataFrame(together)).empty


def test_the_next_folds_keep_a_changed_copy_with_its_original(changed_copy, monkeypatch):
    crops_differ = ("packed", 1.1)
    assert curate(among_others(changed_copy), alike=crops_differ).group.nunique() == 7
    monkeypatch.setattr(duplicates, "GROUPED_CORRELATION", duplicates.COPY_CORRELATION)
    groups = curate(among_others(changed_copy), alike=crops_differ).group
    assert groups.nunique() == 6 and groups[0] == groups[1]


def among_others(few):
    """These images, and as many others as folds need."""
    more = thumbnails_of([image(seed) for seed in range(20, 24)])
    more.table["path"] = "other " + more.table.path
    more.table["sha256"] = more.table.path
    return join(few, more)


def test_an_image_that_an_external_test_leaves_is_counted_unless_it_is_shared(changed_copy):
    ours, theirs = changed_copy.rows(np.array([0])), changed_copy.rows(np.array([1, 2, 2]))
    theirs.table["dataset"] = "theirs"
    shared = pd.DataFrame({"dataset": ["theirs"], "path": ["2.png"]})
    counts = {f"made-up: {copies.LEFT}": 1, f"theirs: {copies.LEFT}": 1}
    assert copies.copies_left(ours, theirs, shared) == counts
    shared = pd.DataFrame({"dataset": ["theirs"], "path": ["1.png"]})
    assert copies.copies_left(ours, theirs, shared) == counts | {f"theirs: {copies.LEFT}": 0}


def test_the_command_writes_the_list_and_takes_an_old_one_away(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    path = tmp_path / copies_file("phantom")
    with monkeypatch.context() as patch:
        patch.setattr(
            command, "curate", lambda *given, **how: curate(*given, **how).assign(fold=lambda t: t.index % FOLDS)
        )
        assert __main__.main(["phantom", "--write"]) == 0
    counted = json.loads((tmp_path / "facts.json").read_text())["phantom"]
    assert len(pd.read_csv(path)) == counted[copies.COPIED_PAIRS] > 0, "planted copies lie in any fold"
    assert __main__.main(["phantom", "--write"]) == 0
    assert not path.exists()
    assert json.loads((tmp_path / "facts.json").read_text())["phantom"][copies.COPIED] == 0


@pytest.mark.real
@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "brain-tumor-44c"])
def test_the_images_give_the_committed_list_of_copies(name, real_sets, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(real_sets))
    images = look(name)
    table = pd.read_csv(SPLITS / f"{name}.csv", dtype=str).set_index("path").loc[images.table.path].reset_index()
    found, path = copies.copy_pairs(images, table), SPLITS / copies_file(name)
    assert found.to_csv(index=False) == (path.read_text() if path.is_file() else f"{','.join(copies.COLUMNS)}\n")
    if name == "brain-tumor-mri":
        same = duplicates.identical_pairs(table.group)
        joined = pd.concat([duplicates.near_pairs(images, correlation=duplicates.COPY_CORRELATION)[["i", "j"]], same])
        sizes = np.bincount(duplicates.components(len(table), joined.i.to_numpy(), joined.j.to_numpy()))
        assert (len(sizes), sizes.max()) == (650, 113), "the groups of the next drawing"


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
