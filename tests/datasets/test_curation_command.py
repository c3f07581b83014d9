"""`python -m datasets.curation` on the phantom and a second one, and the protocols that read its tables."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from datasets.catalog import CATALOG, DataError, get
from datasets.curation import __main__, links, split_table, thumbnails
from datasets.curation.thumbnails import look
from datasets.generator import phantom
from datasets.splitting import FOLDS, copies_file, make_split, overlap_file
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest


@pytest.fixture(scope="module")
def twin(small_phantom, tmp_path_factory):
    """Another phantom, a third of it copied from the small one."""
    phantom.generate(folder := tmp_path_factory.mktemp("twin"), size=64, patients=24, slices=2, seed=5)
    manifest, first = pd.read_csv(folder / "manifest.csv"), pd.read_csv(small_phantom / "phantom/manifest.csv")
    manifest["patient"] = "twin-" + manifest.patient.astype(str)
    manifest["path"] = "twin/" + manifest.path
    with h5py.File(folder / "images.h5", "r+") as file, h5py.File(small_phantom / "phantom/images.h5") as source:
        for row in range(0, len(manifest), 3):
            file["image"][row] = source["image"][row]
            manifest.loc[row, ["sha256", "label"]] = first.loc[row, ["sha256", "label"]]
    manifest.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def two_sets(small_phantom, twin, roots, tmp_path, monkeypatch):
    """The small phantom, `twin` and an empty folder of splits; returns the manifest of "twin"."""
    shutil.copytree(twin, tmp_path / "data/twin")
    (tmp_path / "data/phantom").symlink_to(small_phantom / "phantom")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(CATALOG, "twin", replace(get("phantom"), name="twin"))
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits").mkdir()
    return pd.read_csv(twin / "manifest.csv")


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*")}


def test_one_command_writes_tables_that_the_protocols_read(two_sets, tmp_path, capsys):
    with pytest.raises(DataError, match=r"python -m datasets\.curation phantom twin --write"):
        make_split("phantom", "external", test_on="twin")
    with pytest.raises(DataError, match=r"python -m datasets\.curation phantom --write"):
        make_split("phantom", "cleaned")
    assert __main__.main(["phantom", "twin", "--write"]) == 0
    assert "phantom and twin, images shared" in capsys.readouterr().out
    first = made(tmp_path / "splits")
    assert __main__.main(["phantom", "twin", "--write"]) == 0 and first == made(tmp_path / "splits")
    assert set(first) == {"phantom.csv", "twin.csv", "facts.json", "phantom+twin.csv"}
    cleaned, raw = make_split("phantom", "cleaned"), make_split("phantom")
    kept = np.concatenate([cleaned.train_val, cleaned.test])
    hashes = look("phantom").hashes[:, 0]
    assert len(kept) < len(raw.train_val) + len(raw.test)
    assert len(set(hashes[kept])) == len(kept) == len(set(hashes)), "one image a hash"
    external_leaves_out_every_relative_and_nobody_else(two_sets)
    the_nearest_neighbour_is_asked_under_the_splits_that_are_trained_on()
    for test_on, protocol, message in (
        ("phantom", "external", "external to itself"),
        ("", "external", "names a set to test on"),
        ("twin", "published", "names a set to test on"),
    ):
        with pytest.raises(DataError, match=message):
            make_split("phantom", protocol, test_on=test_on)
    all_shared = read_manifest("twin")[["path"]].assign(dataset="twin", kind="bytes")
    all_shared.to_csv(index.SPLITS / overlap_file("phantom", "twin"), index=False)
    with pytest.raises(DataError, match="'twin' has no image, of a class of 'phantom'"):
        make_split("phantom", "external", test_on="twin")


def external_leaves_out_every_relative_and_nobody_else(two_sets):
    split = make_split("phantom", "external", test_on="twin")
    assert split.test_set == "twin" and not len(np.intersect1d(split.train, split.val))
    assert sorted(split.train_val) == list(range(len(read_manifest("phantom")))), "the whole first set is trained on"
    copied = np.arange(0, len(two_sets), 3)
    table = pd.read_csv(index.SPLITS / "twin.csv", dtype=str, keep_default_na=False)
    related = table.group.isin(set(table.group[copied])).to_numpy()
    assert set(split.test) == set(np.flatnonzero(~related)), "copies and what is grouped with them are left out"
    shared = pd.read_csv(index.SPLITS / overlap_file("twin", "phantom"))
    kinds = shared[shared.dataset == "twin"].set_index("path").kind
    assert (kinds[two_sets.path[copied]] == "bytes").all()
    assert set(kinds) <= {"bytes", "pixels", "near", "patient", "alike", "group"}
    assert len(ImageDataset("twin", split.test, image_size=32, classes=get("phantom").classes)) == len(split.test)


def the_nearest_neighbour_is_asked_under_the_splits_that_are_trained_on():
    images, table = look("phantom"), pd.read_csv(index.SPLITS / "phantom.csv", keep_default_na=False)
    labels = images.table.label.to_numpy()
    for protocol in ("published", "random", "patient"):
        right = [labels[split.test] == found for split, found in thumbnails.nearest_labels(images, protocol)]
        assert thumbnails.accuracy(images, table, protocol) == np.concatenate(right).mean()


def test_a_set_that_names_no_patients_is_asked_at_random_and_nothing_is_written_unasked(
    two_sets, tmp_path, monkeypatch, capsys
):
    """As br35h; no table need be committed for its facts."""
    monkeypatch.setattr(links, "REFERENCE", "twin")
    two_sets.assign(patient="", published_split="").to_csv(tmp_path / "data/twin/manifest.csv", index=False)
    assert __main__.main(["twin"]) == 0 and not list((tmp_path / "splits").iterdir())
    said = capsys.readouterr().out
    assert all(f"1-NN on thumbnails, {protocol} split, accuracy" in said for protocol in ("patient", "random"))


def test_the_command_writes_the_list_of_copies_and_takes_an_old_one_away(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    path, curate = tmp_path / copies_file("phantom"), split_table.curate
    with monkeypatch.context() as patch:
        patch.setattr(split_table, "curate", lambda *given: curate(*given).assign(fold=lambda t: t.index % FOLDS))
        assert __main__.main(["phantom", "--write"]) == 0
    counted = json.loads((tmp_path / "facts.json").read_text())["phantom"]
    assert len(pd.read_csv(path)) == counted[links.COPIED_PAIRS] > 0, "planted copies lie in any fold"
    assert __main__.main(["phantom", "--write"]) == 0 and not path.exists()
    assert json.loads((tmp_path / "facts.json").read_text())["phantom"][links.COPIED] == 0


def test_the_command_line_names_what_is_missing(roots, capsys):
    assert __main__.main(["phantom", "sartaj"]) == 1
    assert "python datasets/download.py sartaj" in capsys.readouterr().err
