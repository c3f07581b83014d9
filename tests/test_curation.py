"""Duplicates, links and splits: what is planted is found and nothing else, and the committed splits keep their word."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import h5py
import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from datasets.catalog import CATALOG, DataError, get
from datasets.curation import __main__, duplicates, links, split_table, thumbnails
from datasets.curation.duplicates import close_hashes, duplicate_pairs, identical_pairs, near_pairs, s0_cleaning
from datasets.curation.links import link
from datasets.curation.split_table import curate, facts
from datasets.curation.thumbnails import PACKED_SIDE, collect, look, phashes, thumbnail, traits
from datasets.generator import phantom
from datasets.splitting import FOLDS, grouped_folds, make_split, overlap_file
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import SPLITS, read_manifest
from datasets.transforms import TRANSFORMS
from utils.evaluation.baselines import nearest_thumbnails

FACTS = json.loads((SPLITS / "facts.json").read_text())


def picture(seed, shape=(90, 110)):
    """A smooth random image: unlike any other, and unlike itself when turned."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 9)
    return np.uint8(255 * (noise - noise.min()) / np.ptp(noise))


def pictures(images, labels=None, **columns):
    """`Thumbnails` of arrays, with a manifest of made-up paths."""
    names = [f"{i}.png" for i in range(len(images))]
    known = {
        "dataset": "made-up",
        "published_split": "train",
        "patient": "",
        "sha256": names,
        "label": labels or "glioma",
    } | columns
    packed = [thumbnail(i, PACKED_SIDE) for i in images]
    table = pd.DataFrame({"path": names} | known, index=range(len(images)))
    return collect(table, [traits(i) for i in images], packed)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_found_and_named(name):
    original = picture(0)
    turned = np.ascontiguousarray(TRANSFORMS[name](original))
    found = near_pairs(pictures([turned, original, picture(1)]))
    assert found[["i", "j", "transform"]].to_numpy().tolist() == [[0, 1, name]]
    linked = link(pictures([turned]), pictures([picture(1), original]))
    assert linked.loc[0, ["reference", "transform"]].tolist() == [1, name]


@pytest.mark.parametrize("shape", [(90, 110), (32, 32), (1, 1), (400, 7)])
def test_hashes_are_those_of_imagehash(shape):
    grey = picture(4, shape) if min(shape) > 1 else np.array([[9]], np.uint8)
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS))
    wanted = [
        int(str(imagehash.phash(Image.fromarray(np.ascontiguousarray(t(tiny))))), 16) for t in TRANSFORMS.values()
    ]
    assert phashes(grey).tolist() == wanted
    assert phashes(grey)[0] == int(str(imagehash.phash(Image.fromarray(grey))), 16)


def test_no_transform_is_another():
    corner = np.arange(12).reshape(3, 4)
    assert len({TRANSFORMS[n](corner).tobytes() + bytes(TRANSFORMS[n](corner).shape) for n in TRANSFORMS}) == 8


def test_hashes_within_a_distance_equal_brute_force():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (300, 400))
    flips = np.uint64(1) << rng.integers(0, 64, (200, 5), dtype=np.uint64)
    b[:200] = a[:200] ^ np.bitwise_or.reduce(flips, axis=1)  # 1 to 5 bits away
    for bits in (0, 4, 5):
        wanted = {(i, j) for i, j in product(range(300), range(400)) if int(a[i] ^ b[j]).bit_count() <= bits}
        assert set(zip(*close_hashes(a, b, bits), strict=True)) == wanted
    assert len(wanted) >= 200


def test_a_near_pair_needs_both_hash_and_correlation():
    found = pictures([picture(0), picture(1), picture(0)])
    found.hashes[1] = found.hashes[0]  # another image under the same hash
    found.hashes[2, :] = ~found.hashes[0]  # the same image under another hash
    assert near_pairs(found).empty
    assert near_pairs(found, correlation=-1).iloc[0][["i", "j"]].tolist() == [0, 1]


def test_images_alike_are_found_under_every_transform_and_joined():
    original = picture(0)
    turned = [np.ascontiguousarray(turn(original)) for turn in TRANSFORMS.values()]
    found = pictures([*turned, picture(1), picture(2), picture(3), picture(4)])
    i, j = duplicates.alike_pairs(found)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {(a, b) for a in range(8) for b in range(a + 1, 8)}
    table = curate(found)
    assert table.group.nunique() == 5 and table.group[:8].nunique() == 1
    assert not len(split_table.alike_across_folds(found, table))
    assert split_table.alike_across_folds(found, table.assign(fold=[0] * 7 + [1] * 5)).tolist() == list(range(8))


def test_alike_is_what_correlates_at_the_threshold(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 3)  # several blocks, the last one not full
    found = pictures([picture(i // 2) if i % 2 else np.uint8(picture(i // 2) * 0.6 + 40) for i in range(8)])
    small = found.packed.reshape(8, -1)
    wanted = {
        (i, j)
        for i, j in product(range(8), range(8))
        if i < j
        and max((np.ascontiguousarray(t(found.packed[[j]])).reshape(-1) @ small[i]) for t in TRANSFORMS.values())
        >= 0.93
    }
    i, j = duplicates.alike_pairs(found)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == wanted >= {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert not len(duplicates.alike_pairs(found, 1.1)[0])


def test_a_group_keeps_its_name_when_another_changes():
    images = [picture(i) for i in range(12)]
    before = curate(pictures(images))
    after = curate(pictures([*images[:-1], images[0]]))
    assert (before.group[:-1] == after.group[:-1]).all() and after.group[0] == after.group[11]


def test_planted_duplicates_are_found_and_nothing_else(roots):
    found = look("phantom")
    table = found.table
    original = table.duplicate_of.where(table.duplicate_of != "", table.path)
    wanted = {(i, j) for rows in table.groupby(original).groups.values() for i, j in product(rows, rows) if i < j}
    pairs = near_pairs(found)
    assert wanted, "the phantom has planted copies"
    assert set(zip(pairs.i, pairs.j, strict=True)) == wanted


def test_wrong_labels_of_copies_and_patients_across_the_split_are_found(roots):
    found = look("phantom")
    table = curate(found)
    original = found.table.duplicate_of.where(found.table.duplicate_of != "", found.table.path)
    wanted = found.table.label.groupby(original).transform("nunique") > 1
    assert (table.label_conflict == 1).tolist() == wanted.tolist()
    for _, members in found.table.groupby("patient").groups.items():
        assert table.group[members].nunique() == 1
    crossing = found.table.groupby("patient").published_split.nunique() > 1
    assert crossing.any(), "patients of the phantom cross its published split"
    assert table.groupby("group").fold.nunique().max() == 1


def test_planted_wrong_labels_are_found_and_no_other(roots):
    table = read_manifest("phantom")
    planted = np.flatnonzero(table.true_label != table.label)
    assert len(planted) and links.wrong_labels(table).tolist() == planted.tolist()
    assert not len(links.wrong_labels(table.assign(patient="")))


def test_copies_that_were_turned_are_named_so_and_no_other(roots):
    found = look("phantom")
    pairs, manifest = near_pairs(found), found.table
    copy = np.where(manifest.duplicate_of[pairs.j].to_numpy() == manifest.path[pairs.i].to_numpy(), pairs.j, pairs.i)
    other = np.where(copy == pairs.j, pairs.i, pairs.j)
    direct = manifest.duplicate_of[copy].to_numpy() == manifest.path[other].to_numpy()  # not a copy with a copy
    planted = manifest.kind[copy].eq("transposed-copy").to_numpy()
    assert planted[direct].sum() >= 4, "at least four were planted"
    assert (pairs["transform"].ne("upright").to_numpy() == planted)[direct].all()


def test_odd_pictures_are_handled():
    odd = [np.zeros((50, 40), np.uint8), np.full((9, 9), 200, np.uint8), np.array([[7]], np.uint8), picture(0)]
    found = pictures(odd)
    assert near_pairs(found).empty, "images of one grey value look like nothing, not like each other"
    assert (link(found, pictures([picture(0)])).reference == [-1, -1, -1, 0]).all()
    twins = pictures([odd[0], odd[0]])
    assert duplicate_pairs(twins).kind.tolist() == ["pixels"], "identical they still are"


def test_an_empty_set_and_a_set_without_labels():
    empty = pictures([])
    assert near_pairs(empty).empty and len(s0_cleaning(empty)) == 0
    assert (link(pictures([picture(0)]), empty).reference == -1).all()
    unlabelled = curate(pictures([picture(i) for i in range(12)], labels=[""] * 12))
    assert sorted(unlabelled.fold.unique()) == [0, 1, 2, 3, 4]
    assert not unlabelled.label_conflict.any()


def test_identical_keys_make_one_group():
    assert identical_pairs(["a", "b", "a", "c", "a"]).to_numpy().tolist() == [[0, 2], [0, 4]]
    assert duplicates.components(5, np.array([0, 0]), np.array([2, 4])).tolist() == [0, 1, 0, 2, 0]


def test_s0_keeps_one_picture_a_hash_train_before_test():
    found = pictures([picture(0), picture(1), picture(0)], published_split=["test", "train", "train"])
    assert s0_cleaning(found).tolist() == [1, 2]


def test_a_link_to_another_label_is_a_conflict_and_brings_the_patient():
    reference = pictures([picture(i) for i in range(10)], patient=[f"p{i // 2}" for i in range(10)])
    found = pictures([picture(i) for i in range(11)], labels=["glioma"] * 3 + ["pituitary"] + ["glioma"] * 7)
    table = curate(found, reference)
    assert table.label_conflict.tolist() == [0, 0, 0, 1] + [0] * 7
    assert table.patient.tolist() == [f"p{i // 2}" for i in range(10)] + [""]
    assert table.groupby("patient").group.nunique().drop("").eq(1).all()
    assert facts(found, table)["linked images"] == 10


def test_the_same_seed_gives_the_same_table(roots):
    found = look("phantom")
    assert curate(found).to_csv() == curate(look("phantom")).to_csv()


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


def test_thumbnails_do_not_depend_on_size():
    big, small = traits(picture(3, (256, 256)))[0], traits(picture(3, (256, 256))[::2, ::2])[0]
    assert (big * small).sum() > 0.99
    assert thumbnails.SIDE == 64


# ---- the tables of the command line, on the phantom and on a second one --------------------------------


@pytest.fixture
def two_sets(roots, tmp_path, monkeypatch):
    """The small phantom, "twin" (another one, a third of it copied from the first) and an empty folder of splits."""
    data = Path(os.environ["BRAIN_MRI_DATA"]) / "phantom"
    twin = tmp_path / "data/twin"
    twin.mkdir(parents=True)
    (tmp_path / "data/phantom").symlink_to(data)
    phantom.generate(twin, size=64, patients=24, slices=2, seed=5)
    manifest, first = pd.read_csv(twin / "manifest.csv"), pd.read_csv(data / "manifest.csv")
    manifest["patient"] = "twin-" + manifest.patient.astype(str)
    manifest["path"] = "twin/" + manifest.path
    with h5py.File(twin / "images.h5", "r+") as file, h5py.File(data / "images.h5") as source:
        for row in range(0, len(manifest), 3):
            file["image"][row] = source["image"][row]
            manifest.loc[row, ["sha256", "label"]] = first.loc[row, ["sha256", "label"]]
    manifest.to_csv(twin / "manifest.csv", index=False)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(CATALOG, "twin", replace(get("phantom"), name="twin"))
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits").mkdir()
    return manifest


def written(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_one_command_writes_tables_that_the_protocols_read(two_sets, tmp_path, capsys):
    with pytest.raises(DataError, match=r"python -m datasets\.curation phantom twin --write"):
        make_split("phantom", "external", test_on="twin")
    with pytest.raises(DataError, match=r"python -m datasets\.curation phantom --write"):
        make_split("phantom", "cleaned")
    assert __main__.main(["phantom", "twin", "--write"]) == 0
    assert "phantom and twin, images shared" in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in (tmp_path / "splits").rglob("*.*")}
    assert __main__.main(["phantom", "twin", "--write"]) == 0
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "splits").rglob("*.*")}, (
        "same data, same bytes"
    )
    assert set(first) == {"phantom.csv", "twin.csv", "facts.json", "phantom+twin.csv"}
    cleaned, raw = make_split("phantom", "cleaned"), make_split("phantom")
    removed = set(np.concatenate([raw.train_val, raw.test])) - set(np.concatenate([cleaned.train_val, cleaned.test]))
    hashes = look("phantom").hashes[:, 0]
    kept = np.setdiff1d(np.arange(len(hashes)), list(removed))
    assert removed and len(set(hashes[kept])) == len(kept) == len(set(hashes)), "one image a hash"


def test_external_leaves_out_every_relative_and_nobody_else(two_sets):
    assert __main__.main(["phantom", "twin", "--write"]) == 0
    split = make_split("phantom", "external", test_on="twin")
    assert split.test_set == "twin" and not len(np.intersect1d(split.train, split.val))
    assert sorted(split.train_val) == list(range(len(read_manifest("phantom")))), "the whole first set is trained on"
    copied = np.arange(0, len(two_sets), 3)
    assert not set(copied) & set(split.test), "copies are left out"
    table = pd.read_csv(index.SPLITS / "twin.csv", dtype=str, keep_default_na=False)
    related = table.group.isin(set(table.group[copied])).to_numpy()
    assert set(split.test) == set(np.flatnonzero(~related)), "with all that is grouped with them, and no other"
    kinds = (
        pd.read_csv(index.SPLITS / overlap_file("twin", "phantom")).query("dataset == 'twin'").set_index("path").kind
    )
    assert (kinds[two_sets.path[copied]] == "bytes").all() and set(kinds) <= {
        "bytes",
        "pixels",
        "near",
        "patient",
        "alike",
        "group",
    }
    assert len(ImageDataset("twin", split.test, image_size=32, classes=get("phantom").classes)) == len(split.test)


def test_external_needs_another_set_and_something_left(two_sets, monkeypatch):
    assert __main__.main(["phantom", "twin", "--write"]) == 0
    with pytest.raises(DataError, match="external to itself"):
        make_split("phantom", "external", test_on="phantom")
    with pytest.raises(DataError, match="names a set to test on"):
        make_split("phantom", "external")
    with pytest.raises(DataError, match="names a set to test on"):
        make_split("phantom", "published", test_on="twin")
    all_shared = read_manifest("twin")[["path"]].assign(dataset="twin", kind="bytes")
    all_shared.to_csv(index.SPLITS / overlap_file("phantom", "twin"), index=False)
    with pytest.raises(DataError, match="'twin' has no image, of a class of 'phantom'"):
        make_split("phantom", "external", test_on="twin")


def test_the_command_line_names_what_is_missing(roots, capsys):
    assert __main__.main(["phantom", "sartaj"]) == 1
    assert "python datasets/download.py sartaj" in capsys.readouterr().err


def test_the_nearest_neighbour_finds_twins(roots):
    found = look("phantom")
    table, seen = nearest_thumbnails(found, "published")
    right = (table.label == table.predicted).to_numpy()
    assert len(table) == len(make_split("phantom").test) and right[seen].mean() > right[~seen].mean()
    table, seen = nearest_thumbnails(found, "patient")
    assert sorted(table.path) == sorted(found.table.path) and not seen.any()


def test_relations_count_what_was_planted(roots):
    found = look("phantom")
    counted = duplicates.relations(found)
    assert list(counted.index) == ["bytes", "pixels", "near"]
    assert (counted["within a class"] + counted["between classes"] == counted.pairs).all()
    assert counted["between the parts"].sum() > 0


# ---- the committed tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj"])
def test_committed_cleaning_is_of_this_set_and_of_s0s_size(name):
    removed = pd.read_csv(SPLITS / f"s0/{name}.csv").path
    assert removed.isin(pd.read_csv(SPLITS / f"{name}.csv").path).all()
    assert len(removed) == removed.nunique() == FACTS[name]["removed by S0's rule"]


@pytest.mark.parametrize(("a", "b"), [("brain-tumor-mri", "sartaj"), ("brain-tumor-mri", "cheng"), ("sartaj", "cheng")])
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


@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng"])
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
    images = [picture(i) for i in range(20)]
    first = curate(pictures(images))
    again = curate(pictures([*images[:-1], images[0]]), before=first)
    assert again.group[19] == again.group[0] == first.group[0], "the last image has become a copy of the first"
    assert (again.fold[:-1] == first.fold[:-1]).all() and again.fold[19] == first.fold[0]


@pytest.mark.real
@pytest.mark.parametrize("name", ["brain-tumor-mri", "sartaj", "cheng"])
def test_no_image_has_one_alike_in_another_fold(real_sets, name):
    """Brute force over all pairs and all 8 transforms, one image at a time, without the code that made the tables."""
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
    for row in range(len(small)):
        likeness = np.max([centred[0][row] @ pixels.T for pixels in centred], axis=0)
        crossing += int(((likeness >= 0.93) & (fold != fold[row])).any())
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
