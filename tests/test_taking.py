"""What is taken in and what is not: another archive, a part of one, a folder instead of one, files of other kinds."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from test_download import SCRIPT, cheng, folders, mat, picture, saved

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.curation import __main__ as curation
from datasets.curation import thumbnails
from datasets.splitting import make_split
from datasets.store import index, manifest
from datasets.store.index import read_manifest


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """An empty data root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def take(name: str, archive: Path | None, *options: str) -> int:
    source = ["--archive", str(archive)] if archive else []
    return download.main([name, *source, "--workers", "1", "--size", "32", *options])


@pytest.fixture
def whole(monkeypatch):
    """Sartaj's set as though its publisher shipped two images a class folder."""
    dataset = catalog.get("sartaj")
    counts = {split: dict.fromkeys(dataset.classes, 2) for split in ("train", "test")}
    monkeypatch.setitem(catalog.CATALOG, "sartaj", replace(dataset, counts=counts))


def log_of(data: Path, name: str = "sartaj") -> dict:
    return json.loads((data / name / "log.json").read_text())


# ---- another archive, a part of one --------------------------------------------------------------------


def test_another_archive_than_the_one_packed_is_told_from_it(whole, data, tmp_path, capsys):
    first, second = saved(tmp_path, folders("sartaj")), saved(tmp_path, folders("sartaj", side=50), "second.zip")
    assert take("sartaj", first) == 0
    pixels = manifest.sha256(data / "sartaj/images.h5")
    shutil.copy(first, tmp_path / "renamed.zip")
    for same in (first, tmp_path / "renamed.zip"):
        assert take("sartaj", same) == 0 and "nothing to do" in capsys.readouterr().out
    for options in ((), ("--crop", "none")):
        assert take("sartaj", second, *options) == 1
        error = capsys.readouterr().err
        assert f"{second}: another archive than the one that 'sartaj' was packed from" in error
        assert "archive.zip" in error and "--replace" in error and error.count("\n") == 1
        assert manifest.sha256(data / "sartaj/images.h5") == pixels
    assert take("sartaj", second, "--replace") == 0
    assert manifest.sha256(data / "sartaj/images.h5") != pixels
    assert log_of(data)["archive"]["name"] == "second.zip"
    assert take("sartaj", second) == 0 and "nothing to do" in capsys.readouterr().out


def test_replace_packs_the_same_archive_anew(whole, data, tmp_path):
    archive = saved(tmp_path, folders("sartaj"))
    assert take("sartaj", archive) == 0
    spoilt = data / "sartaj/raw/Training/glioma_tumor/0.jpg"
    spoilt.write_bytes(b"spoilt")
    assert take("sartaj", archive, "--replace") == 0
    assert spoilt.read_bytes() != b"spoilt" and download.main(["sartaj", "--check"]) == 0


def test_replace_wants_an_archive(data, capsys):
    with pytest.raises(SystemExit):
        download.main(["sartaj", "--replace"])
    assert "--replace goes with --archive FILE" in capsys.readouterr().err


def test_a_part_of_an_archive_is_refused_with_counts_or_taken_and_marked(data, tmp_path, capsys):
    archive = saved(tmp_path, folders("sartaj"))
    assert take("sartaj", archive) == 1
    error = capsys.readouterr().err
    assert f"{archive}: 16 of the 3,264 images that sartaj was published with" in error and "--partial" in error
    assert error.count("\n") == 1 and not (data / "sartaj").exists()
    assert take("sartaj", archive, "--partial") == 0
    assert set(read_manifest("sartaj").partial) == {"16 of 3264"} and log_of(data)["partial"] == "16 of 3264"
    assert "a part of it, 16 of 3264" in capsys.readouterr().err
    assert take("sartaj", archive) == 0 and "nothing to do" in capsys.readouterr().out
    assert take("sartaj", None, "--crop", "none") == 0, "another crop of the part that is here"
    assert set(read_manifest("sartaj").partial) == {"16 of 3264"}


def test_the_whole_takes_the_place_of_a_part(data, tmp_path, monkeypatch):
    part = {name: content for name, content in folders("sartaj").items() if "1.jpg" not in name}
    assert take("sartaj", saved(tmp_path, part), "--partial") == 0
    dataset = catalog.get("sartaj")
    counts = {split: dict.fromkeys(dataset.classes, 2) for split in ("train", "test")}
    monkeypatch.setitem(catalog.CATALOG, "sartaj", replace(dataset, counts=counts))
    assert take("sartaj", saved(tmp_path, folders("sartaj"), "whole.zip"), "--replace") == 0
    assert "partial" not in read_manifest("sartaj") and "partial" not in log_of(data)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sartaj", {"protocol": "published"}),
        ("sartaj", {"protocol": "cleaned"}),
        ("sartaj", {"protocol": "patient"}),
        ("sartaj", {"protocol": "external", "test_on": "cheng"}),
        ("phantom", {"protocol": "external", "test_on": "sartaj"}),
        ("sartaj", {"protocol": "external", "test_on": "phantom"}),
    ],
)
def test_the_committed_splits_refuse_a_part(name, how, small_phantom, data, tmp_path, monkeypatch):
    assert take("sartaj", saved(tmp_path, folders("sartaj")), "--partial") == 0
    shutil.copytree(small_phantom / "phantom", data / "phantom")
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits/overlap").mkdir(parents=True)
    (tmp_path / "splits/overlap/phantom+sartaj.csv").write_text("dataset,path,kind\n")
    if name == "sartaj" and how.get("test_on") != "phantom":  # a table that names all of its images would do no harm
        table = read_manifest("sartaj")[["path", "label"]].assign(group="g", fold="0")
        table.to_csv(tmp_path / "splits/sartaj.csv", index=False)
    with pytest.raises(DataError, match=r"16 of 3264 images of 'sartaj' .*--archive FILE --replace"):
        make_split(name, **how)


def test_patients_of_a_publisher_are_spelt_in_one_way(data, tmp_path, capsys):
    spelt = ["100360", "100360 ", "MR040240", "mr040240", "MR040240B ", "mr040240b"]
    files = {f"{i + 1}.mat": mat(i % 3 + 1, pid, seed=i) for i, pid in enumerate(spelt)}
    assert take("cheng", saved(tmp_path, files), "--partial") == 0
    assert read_manifest("cheng").patient.tolist() == ["100360"] * 2 + ["MR040240"] * 4
    assert "'MR040240' = 'mr040240'" in capsys.readouterr().err
    assert log_of(data, "cheng")["notes"], "the log keeps it"


# ---- what cannot be read, and folders ------------------------------------------------------------------


def test_an_archive_that_may_not_be_read_is_no_disk_that_cannot_be_written(tmp_path):
    """In a process without root's right to read everything."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not here")
    archive = saved(tmp_path, folders("sartaj"))
    archive.chmod(0o000)
    (tmp_path / "unpacked").mkdir(mode=0o000)
    zipfile.ZipFile(saved(tmp_path, folders("sartaj"), "whole.zip")).extractall(tmp_path / "some")
    secret = tmp_path / "some/Training/glioma_tumor/0.jpg"
    secret.chmod(0o000)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for given, path in (
        (archive, archive),
        (tmp_path / "unpacked", tmp_path / "unpacked"),
        (tmp_path / "some", secret),
    ):
        for options in ((), ("--check",)) if given == path else ((),):
            command = [*drop, sys.executable, str(SCRIPT), "sartaj", "--archive", str(given), *options]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
            assert f"{path}: cannot be read (Permission denied)" in done.stderr
            assert "written" not in done.stderr
    (tmp_path / "unpacked").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "files", "nested"),
    [
        ("sartaj", folders("sartaj", inside="download (1)/") | {"__MACOSX/x.txt": b""}, False),
        ("cheng", cheng(), False),
        ("cheng", cheng(), True),
    ],
    ids=["sartaj", "cheng's inner zips", "cheng unpacked wholly"],
)
def test_an_unpacked_folder_is_as_good_as_an_archive(name, files, nested, data, tmp_path, capsys):
    assert take(name, saved(tmp_path, files), "--partial") == 0
    by_archive = [(data / name / file).read_bytes() for file in ("images.h5", "manifest.csv")]
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(tmp_path / "archive.zip").extractall(unpacked)
    for inner in unpacked.glob("*.zip") if nested else ():
        zipfile.ZipFile(inner).extractall(unpacked / inner.stem)
        inner.unlink()
    shutil.rmtree(data)
    before = sorted(path.relative_to(unpacked) for path in unpacked.rglob("*"))
    assert take(name, unpacked, "--partial") == 0
    assert [(data / name / file).read_bytes() for file in ("images.h5", "manifest.csv")] == by_archive
    assert sorted(path.relative_to(unpacked) for path in unpacked.rglob("*")) == before, "the folder is left as it is"
    assert take(name, unpacked) == 0 and "nothing to do" in capsys.readouterr().out
    assert download.main([name, "--check", "--archive", str(unpacked)]) == 1  # a part
    assert "the very archive" in capsys.readouterr().out
    next(path for path in unpacked.rglob("*") if path.name in ("0.jpg", "1.mat") or path.suffix == ".zip").unlink()
    assert take(name, unpacked) == 1 and "another archive" in capsys.readouterr().err


def test_a_folder_of_another_set_is_named(tmp_path, capsys):
    zipfile.ZipFile(saved(tmp_path, folders("brain-tumor-mri"))).extractall(tmp_path / "unpacked")
    assert take("sartaj", tmp_path / "unpacked") == 1
    assert "looks like brain-tumor-mri" in capsys.readouterr().err
    assert take("sartaj", tmp_path / "nowhere") == 1
    assert "nowhere: no such file or folder" in capsys.readouterr().err


# ---- files of other kinds ------------------------------------------------------------------------------


def of_kind(kind: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(seed, kind="PNG"))).save(buffer, kind)
    return buffer.getvalue()


def test_images_of_every_usual_suffix_are_read_and_others_listed(data, tmp_path, capsys):
    kinds = {".tif": "TIFF", ".TIFF": "TIFF", ".gif": "GIF", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
    more = {f"Training/glioma_tumor/x{i}{suffix}": of_kind(kind, i) for i, (suffix, kind) in enumerate(kinds.items())}
    beside = {"Training/glioma_tumor/scan.dcm": b"DICM", "Training/glioma_tumor/Thumbs.db": b"", "README.txt": b""}
    assert take("sartaj", saved(tmp_path, folders("sartaj") | more | beside), "--partial") == 0
    assert len(read_manifest("sartaj")) == 16 + len(kinds)
    error = capsys.readouterr().err
    assert "left out 1 file beside the images, Training/glioma_tumor/scan.dcm" in error
    assert "Thumbs.db" not in error and "README" not in error
    assert "Training/glioma_tumor/scan.dcm" in log_of(data)["left_out"]


def test_a_jpeg_without_its_end_marker_is_taken_and_noted(data, tmp_path, capsys):
    files = folders("sartaj")
    cut = next(iter(files))
    assert take("sartaj", saved(tmp_path, files | {cut: files[cut][:-2]}), "--partial") == 0
    assert "note: 1 image: JPEG without its end marker" in capsys.readouterr().err
    assert cut in set(read_manifest("sartaj").path)


# ---- curation ------------------------------------------------------------------------------------------


def test_curation_says_what_is_missing_before_it_looks_at_an_image(tmp_path, monkeypatch, capsys):
    assert take("sartaj", saved(tmp_path, folders("sartaj")), "--partial") == 0
    looked = []
    monkeypatch.setattr(thumbnails, "traits", lambda *_: looked.append(1))
    assert curation.main(["sartaj"]) == 1
    assert "python datasets/download.py cheng" in capsys.readouterr().err and not looked
