"""Splits: every image is in one set, no group is in two where it must not be, a seed gives the same rows."""

import numpy as np
import pytest

from datasets.catalog import DataError
from datasets.splitting import grouped_folds, make_split
from datasets.store import index
from datasets.store.index import read_manifest


@pytest.mark.parametrize(("protocol", "fold"), [("published", 0), *(("patient", f) for f in range(5))])
def test_every_image_is_in_exactly_one_set_and_validation_shares_no_group(roots, protocol, fold):
    split = make_split("phantom", protocol, fold)
    rows = np.concatenate([split.train, split.val, split.test])
    assert sorted(rows) == list(range(len(read_manifest("phantom"))))
    groups = {part: set(split.groups[getattr(split, part)]) for part in ("train", "val", "test")}
    assert not groups["train"] & groups["val"]
    if protocol == "patient":
        assert not groups["test"] & (groups["train"] | groups["val"])
        patients = read_manifest("phantom").patient.to_numpy()
        assert not set(patients[split.test]) & set(patients[split.train_val])
    else:
        folders = read_manifest("phantom").published_split
        assert set(folders.iloc[split.test]) == {"test"} and set(folders.iloc[split.train_val]) == {"train"}
        assert groups["test"] & groups["train"], "the phantom's published split leaks patients, as the real ones do"


def test_patient_folds_cover_all_and_the_seed_decides_validation_alone(roots):
    tests = [make_split("phantom", "patient", fold, seed=fold).test for fold in range(5)]
    assert sorted(np.concatenate(tests)) == list(range(len(read_manifest("phantom"))))
    assert np.array_equal(make_split("phantom", "patient", 0, seed=7).test, tests[0])
    one, same, *others = (make_split("phantom", seed=s).val for s in (0, 0, 1, 2, 3))
    assert np.array_equal(one, same)
    assert not all(np.array_equal(one, other) for other in others)


@pytest.mark.parametrize("cut", ["random", "first"])
def test_validation_may_be_cut_image_by_image_as_some_authors_did(roots, cut):
    split, manifest = make_split("phantom", val_fraction=0.15, val_cut=cut), read_manifest("phantom")
    assert abs(len(split.val) - 0.15 * len(split.train_val)) <= 4
    assert set(split.groups[split.train]) & set(split.groups[split.val]), "patients are on both sides"
    if cut == "first":
        for _, of in manifest.iloc[split.train_val].groupby("label"):
            chosen = of.path.isin(manifest.path.iloc[split.val])
            assert of.path[chosen].max() < of.path[~chosen].min()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"protocol": "pateint"}, "did you mean 'patient'"),
        ({"fold": 5}, "the folds are 0 to 4"),
        ({"name": "phantm"}, "did you mean 'phantom'"),
        ({"protocol": "external", "test_on": "chengg"}, "unknown data set 'chengg'; did you mean 'cheng'"),
        ({"name": "cheng"}, "python datasets/download.py cheng"),
        ({"protocol": "patient", "selection": "middle"}, "selection='middle': 'phantom' holds no volumes"),
        ({"protocol": "patient", "selection": "midle"}, "did you mean 'middle'"),
    ],
)
def test_errors_say_what_to_do(roots, args, message):
    with pytest.raises(DataError, match=message):
        make_split(**{"name": "phantom"} | args)


def test_a_committed_table_decides_and_must_cover_every_image(roots, tmp_path, monkeypatch):
    manifest = read_manifest("phantom")
    fold = manifest.patient.rank(method="dense").astype(int) % 5
    table = manifest[["path", "label"]].assign(group=manifest.patient, fold=fold)
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    table.iloc[::-1].to_csv(tmp_path / "phantom.csv", index=False)  # keyed by path, whatever the order
    assert np.array_equal(make_split("phantom", "patient", 2).test, np.flatnonzero(fold == 2))
    table.assign(fold=table.index % 5).to_csv(tmp_path / "phantom.csv", index=False)
    with pytest.raises(DataError, match="a group is on two sides"):
        make_split("phantom", "patient", 2)
    table.iloc[1:].to_csv(tmp_path / "phantom.csv", index=False)
    with pytest.raises(DataError, match=f"1 images of 'phantom' are not in it, first {manifest.path[0]}"):
        make_split("phantom", "patient")


@pytest.mark.parametrize(("protocol", "parts"), [("slices", 10), ("random", 5)])
def test_a_split_by_slices_or_at_random_leaks_patients(roots, protocol, parts):
    split, total = make_split("phantom", protocol), len(read_manifest("phantom"))
    assert sorted([*split.train_val, *split.test]) == list(range(total))
    assert len(split.test) == -(-total // parts) and split.seen.mean() > 0.5
    assert np.array_equal(split.test, make_split("phantom", protocol, seed=3).test)


def test_no_fold_stays_without_a_group_and_too_few_are_counted():
    with pytest.raises(DataError, match="3 patients or groups are too few for 5 parts"):
        grouped_folds(np.zeros(6), np.array([0, 0, 1, 1, 2, 2]), 5, 0)
    groups = np.repeat(np.arange(5), [50, 1, 1, 1, 1])
    assert sorted(set(grouped_folds(np.zeros(54), groups, 5, 0))) == [0, 1, 2, 3, 4]


def test_folds_do_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 4, 300), rng.integers(0, 60, 300).astype(str)
    fold, order = grouped_folds(labels, groups, 5, 0), rng.permutation(300)
    assert np.array_equal(grouped_folds(labels[order], groups[order], 5, 0), fold[order])
    assert not np.array_equal(grouped_folds(labels, groups, 5, 1), fold), "another seed, other folds"
