"""`python -m datasets.curation` on the phantom and a second one, and the protocols that read its tables."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from datasets.catalog import CATALOG, DataError, get
from datasets.curation import __main__
from datasets.curation.thumbnails import look
from datasets.generator import phantom
from datasets.splitting import make_split, overlap_file
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest


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
