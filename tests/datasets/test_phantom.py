"""The phantom: same seed same bytes, tumours where they belong, and exactly the faults that its manifest records."""

import errno
import hashlib
import os
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from datasets.catalog import CATALOG, CLASSES, DataError
from datasets.generator import anatomy, phantom, scanner, tumours

GREY = CATALOG["phantom"].grey
TURNS = [lambda a, k=k, f=f: np.rot90(a[:, ::-1] if f else a, k) for f in (False, True) for k in range(4)]


def load(folder):
    table = pd.read_csv(folder / "manifest.csv", dtype={"patient": str}, keep_default_na=False)
    with h5py.File(folder / "images.h5") as store:
        return table, store["image"][:], store["mask"][:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    phantom.generate(folder := tmp_path_factory.mktemp("phantom"), seed=1, patients=52, size=64, slices=4)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    return load(folder)


def test_a_disk_without_room_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "_visit", lambda *_: pytest.fail("it is drawn"))
    monkeypatch.setattr(phantom.shutil, "disk_usage", lambda path: SimpleNamespace(free=30 * 4 * 64**2))
    with pytest.raises(OSError) as refused:
        phantom.generate(tmp_path, patients=30, size=64)
    assert refused.value.errno == errno.ENOSPC


def fingerprints(folder):
    _, images, masks = load(folder)
    parts = [images.tobytes(), masks.tobytes(), *((folder / n).read_bytes() for n in ("manifest.csv", "images.h5"))]
    return [hashlib.sha256(part).hexdigest() for part in parts]


ELSEWHERE = """
from pathlib import Path
from datasets.generator import phantom
phantom.MOST_WORKERS, phantom.SMALL = 2, 0
phantom.generate(Path("elsewhere"), size=64, patients=24, slices=3)
"""


def test_a_seed_gives_the_same_bytes_in_every_process_and_another_seed_others(small_phantom, tmp_path):
    """Also where another Python draws it, in two processes and with hashes of its own."""
    env = os.environ | {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, env=env, check=True)
    here = fingerprints(small_phantom / "phantom")
    assert fingerprints(tmp_path / "elsewhere") == here
    phantom.generate(tmp_path / "other", seed=8, size=64, patients=24, slices=3)
    assert not set(fingerprints(tmp_path / "other")) & set(here)


def test_manifest_and_store_agree_and_the_file_says_what_it_holds(made, folder):
    table, images, masks = made
    assert len(table) == len(images) == len(masks) and images.dtype == masks.dtype == np.uint8
    assert images.shape[1:] == (64, 64, 4) and masks.shape[1:] == (64, 64, 3) and masks.max() == 1
    assert [hashlib.sha256(image.tobytes()).hexdigest() for image in images] == table.sha256.tolist()
    assert set(table.bytes) == {64 * 64 * 4} and set(table.width) == set(table.height) == {64}
    assert table.path.is_unique and table.path.is_monotonic_increasing
    named = table.published_split + "/" + table.label + "/" + table.patient
    assert all(path.startswith(start + "_s") for path, start in zip(table.path, named, strict=True))
    with h5py.File(folder / "images.h5") as store:
        facts = dict(store.attrs)
        assert store["image"].chunks == (1, 64, 64, 1) and store["mask"].chunks == (1, 64, 64, 3)
    assert (folder / "images.h5").stat().st_size > 52 * 4 * 64**2 * phantom.PACKED, "it asks less of a disk"
    assert facts == {"name": "phantom", "size": 64, "crop": "none", "version": phantom.VERSION, "seed": 1}


def test_every_class_is_in_both_parts_and_patients_cross_them(made):
    table, _, _ = made
    assert set(zip(table.published_split, table.true_label, strict=True)) == {
        (split, label) for split in ("train", "test") for label in CLASSES
    }
    parts = table[table.kind == ""].groupby("patient").published_split.nunique()
    assert 0.2 < (parts == 2).mean() < 0.6
    assert (table.groupby("patient").true_label.nunique() == 1).all()


def test_masks_show_what_each_class_is(made):
    table, _, masks = made
    present = pd.DataFrame(masks.any((1, 2)), columns=["NCR", "ED", "ET"]).assign(label=table.true_label)
    assert not present[present.label == "notumor"][["NCR", "ED", "ET"]].any(axis=None)
    assert present[present.label != "notumor"].ET.all(), "every slice of a tumour patient shows the tumour"
    patients = present.assign(patient=table.patient)[table.true_label == "glioma"].groupby("patient")
    assert patients[["NCR", "ED", "ET"]].any().all(axis=None)
    assert not present[present.label == "pituitary"].ED.any()


def tumour_places(label, number):
    """Template points (3, n) and depth below the dura (n,) of the solid tumour in the slice through its centre."""
    rng = np.random.default_rng(number)
    visit = scanner.Visit(label, rng)
    points = anatomy.plane(visit.head, tumours.height(visit.head, visit.tumour), 96, np.zeros(3))
    at = anatomy.to_template(visit.head, points)[:, visit.draw(points)[1][..., [0, 2]].any(-1)]
    return at, -anatomy.brain_distance(at)


@pytest.mark.parametrize("number", range(6))
def test_tumours_grow_where_their_kind_grows(number):
    at, _ = tumour_places("pituitary", number)
    x, y, z = at.mean(1)
    assert abs(x) < 6 and -12 < y < 20 and -42 < z < -15, "the sella: on the midline, at the base of the skull"
    _, depth = tumour_places("meningioma", number)
    assert depth.min() < 2, "the dura"
    _, depth = tumour_places("glioma", number)
    assert depth.min() > -1 and depth.max() > 5, "inside the brain"


def test_each_planted_fault_is_what_its_name_says(made):
    table, images, masks = made
    place = {path: i for i, path in enumerate(table.path)}
    assert set(table.kind) == {"", "byte-copy", "near-copy", "transposed-copy"}
    assert ((table.kind == "") == (table.duplicate_of == "")).all()
    copies = table[table.kind != ""]
    for i, row in copies.iterrows():
        source = place[row.duplicate_of]
        assert table.kind[source] == "" and table.patient[source] == row.patient
        assert (images[i].tobytes() == images[source].tobytes()) == (row.kind == "byte-copy")
        turned = {turn(images[source]).tobytes() for turn in TURNS[1:]}
        assert (images[i].tobytes() in turned) == (row.kind == "transposed-copy")
        if row.kind != "transposed-copy":
            assert np.array_equal(masks[i], masks[source])
    sources = table.loc[[place[path] for path in copies.duplicate_of]]
    assert (copies.published_split.values != sources.published_split.values).any(), "copies across the split"
    assert (copies.label.values != sources.label.values).any(), "the same image under two labels"
    originals = table[table.kind == ""]
    assert 0 < (originals.label != originals.true_label).mean() < 0.05
    transposed = originals.groupby("true_label").transposed.mean()
    assert transposed["notumor"] == 0 and transposed["glioma"] > 0.75
    assert 0.25 < transposed["meningioma"] < 0.75 and 0.25 < transposed["pituitary"] < 0.75


def test_images_too_small_are_refused(tmp_path):
    with pytest.raises(DataError, match="images of 63 pixels are too small"):
        phantom.generate(tmp_path / "new", size=63)
    assert not (tmp_path / "new").exists()
