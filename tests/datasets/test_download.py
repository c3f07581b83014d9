"""`download.py` from an archive to a data set, another size, `--check`, and the real archives."""

import json
import os
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from archives import bring, cheng, folders, image, left, saved

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.generator import phantom
from datasets.store import manifest
from datasets.store.images import ImageDataset, read_masks

pytestmark = pytest.mark.usefixtures("root")

SETS = ("brain-tumor-mri", "sartaj")


@pytest.mark.parametrize(
    ("name", "files", "images"),
    [
        ("brain-tumor-mri", folders("brain-tumor-mri"), 16),
        ("sartaj", folders("sartaj", inside="download (1)/") | {"__MACOSX/x.txt": b""}, 16),
        ("cheng", cheng(), 12),
        ("cheng", cheng(nested=False), 12),
    ],
    ids=["brain-tumor-mri", "sartaj in a folder", "cheng", "cheng, inner zips unpacked"],
)
def test_an_archive_becomes_a_data_set_and_a_second_run_does_nothing(name, files, images, root, tmp_path, capsys):
    archive = saved(tmp_path, files)
    assert bring(name, archive, "--size", "64") == 0
    home = root / name
    assert sorted(p.name for p in home.iterdir()) == ["images.h5", "log.json", "manifest.csv", "raw", "raw.json"]
    rows = manifest.read_rows(home / "manifest.csv")
    dataset = catalog.get(name)
    assert len(rows) == images
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {row["label"] for row in rows} == set(dataset.classes)
    assert {row["published_split"] for row in rows} == set(dataset.counts)
    for row in rows:
        assert manifest.sha256(home / "raw" / row["path"]) == row["file_sha256"]
    with h5py.File(home / "images.h5") as store:
        assert store["image"].shape == (images, 64, 64)
        assert (store.attrs["name"], store.attrs["size"], store.attrs["crop"]) == (name, 64, dataset.crop)
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*")}
    capsys.readouterr()
    assert bring(name, archive) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in home.rglob("*")} == before
    assert left(root) == [name]


def test_cheng_keeps_masks_patients_and_the_way_up(root, tmp_path):
    assert bring("cheng", saved(tmp_path, cheng()), "--crop", "none", "--size", "60") == 0
    rows = manifest.read_rows(root / "cheng" / "manifest.csv")
    assert [(row["path"], row["label"], row["pid"], row["patient"]) for row in rows[:1] + rows[-2:]] == [
        ("1.mat", "meningioma", "100360", "100360"),
        ("8.mat", "glioma", "MR040240", "MR040240"),
        ("9.mat", "pituitary", "MR040240B", "MR040240"),
    ]
    assert (rows[0]["width"], rows[0]["height"]) == ("60", "40")
    with h5py.File(root / "cheng" / "images.h5") as store:
        assert store["image"][0].min() < 10
        assert store["image"][0].max() > 245  # 16 bits by the image's own range, then enlarged
        top, left_ = np.argwhere(store["mask"][0, ..., 0]).min(axis=0)
        assert (top, left_) == (8, 20)  # row 5 of 40, column 20 of 60, on 60×60


def test_the_manifest_names_the_publishers_file_where_it_is_known(root, tmp_path, capsys):
    original = "Training/glioma/Tr-gl_0010.jpg"
    assert bring("brain-tumor-mri", saved(tmp_path, folders("brain-tumor-mri") | {original: image(99)})) == 0
    row = next(r for r in manifest.read_rows(root / "brain-tumor-mri" / "manifest.csv") if r["path"] == original)
    own = manifest.originals("brain-tumor-mri")[original]
    assert {key: row[key] for key in own} == own
    assert row["file_sha256"] == manifest.sha256(root / "brain-tumor-mri" / "raw" / original) != row["sha256"]
    assert download.main(["brain-tumor-mri", "--check"]) == 1  # 17 images are not the published 7,023
    output = capsys.readouterr()
    assert "0 of 17 files have the publisher's own bytes" in output.out
    assert "train glioma: 3 images, published are 1321" in output.err


def test_another_size_is_made_from_raw_without_the_archive(root, tmp_path):
    archive = saved(tmp_path, folders("sartaj"))
    assert bring("sartaj", archive, "--size", "64") == 0
    archive.unlink()
    raw = {p: p.stat().st_mtime_ns for p in (root / "sartaj" / "raw").rglob("*")}
    assert bring("sartaj", None, "--size", "32", "--crop", "none") == 0
    with h5py.File(root / "sartaj" / "images.h5") as store:
        assert (store["image"].shape, store.attrs["crop"]) == ((16, 32, 32), "none")
    assert bring("sartaj", None, "--crop", "margin") == 0  # the size stays
    with h5py.File(root / "sartaj" / "images.h5") as store:
        assert (store["image"].shape, store.attrs["crop"]) == ((16, 32, 32), "margin")
    assert {p: p.stat().st_mtime_ns for p in (root / "sartaj" / "raw").rglob("*")} == raw
    assert left(root) == ["sartaj"]


def test_a_spoilt_set_is_mended_by_another_archive(root, tmp_path):
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 0
    (root / "sartaj" / "log.json").unlink()
    for path in (root / "sartaj" / "raw").rglob("*.jpg"):
        path.write_text("spoilt")
    assert bring("sartaj") == 1
    assert bring("sartaj", saved(tmp_path, folders("sartaj", each=3))) == 0
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 24
    assert left(root) == ["sartaj"]


def test_the_phantom_comes_the_same_way(root, monkeypatch, capsys):
    monkeypatch.setattr(phantom, "generate", partial(phantom.generate, patients=24, slices=2))
    assert download.main(["phantom", "--size", "64"]) == 0
    assert left(root) == ["phantom"]
    assert download.main(["phantom"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    first = manifest.sha256(root / "phantom" / "images.h5")
    assert download.main(["phantom", "--size", "64", "--seed", "1"]) == 0
    assert manifest.sha256(root / "phantom" / "images.h5") != first
    assert download.main(["phantom", "--check"]) == 0


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def spoil(home: Path, name: str, row: int) -> None:
    """Damage the pixels of one stored image or mask, and let the log vouch for the file as it is now."""
    with h5py.File(home / "images.h5") as store:
        data = store[name]
        offset = data.id.get_chunk_info_by_coord((row, *[0] * (data.ndim - 1))).byte_offset
    content = bytearray((home / "images.h5").read_bytes())
    content[offset + 7] ^= 1
    (home / "images.h5").write_bytes(content)
    manifest.write_log(home, json.loads((home / "log.json").read_text()))


@pytest.mark.parametrize("name", ["image", "mask"])
def test_check_and_training_see_one_changed_pixel(name, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(manifest, "count_differences", lambda *_: [])  # tiny by intent
    bring("cheng", saved(tmp_path, cheng()))
    assert download.main(["cheng", "--check"]) == 0
    spoil(root / "cheng", name, 5)
    path = manifest.read_rows(root / "cheng" / "manifest.csv")[5]["path"]
    assert download.main(["cheng", "--check"]) == 1
    assert f"1 {name}s of images.h5 changed on disk, that of {path} first" in capsys.readouterr().err
    with pytest.raises(DataError, match=f"{name} 5 changed on disk"):
        ImageDataset("cheng", np.arange(12), masks=True)
    if name == "mask":
        with pytest.raises(DataError, match="mask 5 changed on disk"):
            read_masks("cheng", np.arange(12))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda home: flip(home / "raw/Training/glioma_tumor/0.jpg"), "Training/glioma_tumor/0.jpg"),
        (lambda home: (home / "raw/Training/glioma_tumor/0.jpg").unlink(), "1 files are missing"),
        (lambda home: flip(home / "images.h5"), "images.h5 has other bytes"),
        (lambda home: (home / "images.h5").write_bytes(b"x"), "images.h5: cannot be read"),
        (lambda home: (home / "log.json").unlink(), "log.json"),
    ],
    ids=["raw changed", "raw missing", "images changed", "images cut", "no log"],
)
def test_check_finds_the_harm(harm, said, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(manifest, "count_differences", lambda *_: [])  # tiny by intent
    archive = saved(tmp_path, folders("sartaj"))
    bring("sartaj", archive)
    assert download.main(["sartaj", "--check", "--archive", str(archive)]) == 0
    assert "in order" in capsys.readouterr().out
    harm(root / "sartaj")
    assert download.main(["sartaj", "--check"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*SETS, "cheng"])
def test_the_real_archives(name, root, capsys):
    archives = os.environ.get("BRAIN_MRI_ARCHIVES")
    if not archives:
        pytest.skip("BRAIN_MRI_ARCHIVES names no folder with the real archives")
    dataset = catalog.get(name)
    assert download.main([name, "--archive", str(Path(archives) / dataset.archive)]) == 0
    assert capsys.readouterr().err == ""  # no broken image, no count that differs
    assert download.main([name, "--check"]) == 0
    rows = manifest.read_rows(root / name / "manifest.csv")
    assert manifest.count(rows) == {s: dict(sorted(labels.items())) for s, labels in dataset.counts.items()}
    if name == "cheng":
        assert len({row["pid"] for row in rows}) == 233
        assert len({row["patient"] for row in rows}) == 209
    else:
        originals = manifest.originals(name)
        assert len(originals) == dataset.images
        assert all(row["sha256"] == originals[row["path"]]["sha256"] for row in rows)
