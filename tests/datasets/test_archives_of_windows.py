"""Archives and folders as they come from other programs: backslashes, other compressions, links, names in Latin-1."""

import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from archives import bring, cheng, folders, left, saved, zipped
from dicom_files import dicom

from datasets.catalog import get
from datasets.sources import remind

pytestmark = pytest.mark.usefixtures("root")


def backslashed(files: dict[str, bytes]) -> dict[str, bytes]:
    """As .NET packed them before 4.6.1, folders as entries of their own."""
    outside = {name.rpartition("/")[0]: b"" for name in files if "/" in name}
    return {f"{name}\\".replace("/", "\\"): b"" for name in outside} | {
        name.replace("/", "\\"): content for name, content in files.items()
    }


@pytest.mark.parametrize(
    ("name", "files"),
    [("sartaj", folders("sartaj", inside="download/")), ("cheng", {f"d/{k}": v for k, v in cheng().items()})],
    ids=["folders", "inner zips"],
)
def test_backslashes_in_an_archive_are_slashes(name, files, root, tmp_path):
    assert bring(name, saved(tmp_path, files), "--size", "32") == 0
    wanted = {file: (root / name / file).read_bytes() for file in ("images.h5", "manifest.csv")}
    shutil.rmtree(root)
    assert bring(name, saved(tmp_path, backslashed(files)), "--size", "32") == 0
    assert wanted == {file: (root / name / file).read_bytes() for file in wanted}


@pytest.mark.parametrize(
    "evil", ["Training\\..\\..\\evil.jpg", "\\evil.jpg", "\\\\host\\evil.jpg", "c:evil.jpg", "..\\e"]
)
def test_backslashes_do_not_lead_out_of_the_folder(evil, root, tmp_path, capsys):
    assert bring("sartaj", saved(tmp_path, backslashed(folders("sartaj")) | {evil: b"x"})) == 1
    assert "would be written outside its folder" in capsys.readouterr().err and left(root) == []
    assert {path.name for path in tmp_path.iterdir()} == {"archive.zip", "data"}


def said_to_be(content: bytes, local: int, central: int, value: int) -> bytes:
    """The same archive, whose members have another number at a place of their local and their central header."""
    changed = bytearray(content)
    for signature, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = content.find(signature)
        while start >= 0:
            changed[start + place : start + place + 2] = struct.pack("<H", value)
            start = content.find(signature, start + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ((8, 10, 9), "packed in a way that is not read here"),  # method 9, Deflate64
        ((6, 8, 1), "is encrypted"),  # the first of the flags
    ],
)
def test_what_is_to_be_unpacked_by_hand(header, reason, root, tmp_path, capsys):
    archive = saved(tmp_path, said_to_be(zipped(folders("sartaj")), *header))
    assert bring("sartaj", archive) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {archive}: ") and reason in error
    assert "pass the folder: --archive FOLDER" in error and "download" not in error
    assert left(root) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_damage_is_told_from_a_disk_s_fault_in_every_compression(method, place, root, tmp_path, capsys):
    content = bytearray(zipped(folders("sartaj", side=100), method))
    start = int(place * 2000)
    content[start : start + 64] = bytes(64)
    assert bring("sartaj", saved(tmp_path, bytes(content))) == 1
    error = capsys.readouterr().err
    assert "archive.zip: not a whole zip archive (" in error and "download it again" in error and error.count("\n") == 1
    assert left(root) == []


# ---- folders that were unpacked by hand ----------------------------------------------------------------


@pytest.fixture
def unpacked(tmp_path) -> Path:
    zipfile.ZipFile(saved(tmp_path, folders("sartaj"))).extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_a_class_folder_that_is_a_link_is_not_passed_over(unpacked, root, tmp_path):
    assert bring("sartaj", unpacked, "--size", "32") == 0
    wanted = {file: (root / "sartaj" / file).read_bytes() for file in ("images.h5", "manifest.csv")}
    shutil.rmtree(root)
    (unpacked / "Training/glioma_tumor").rename(tmp_path / "elsewhere")
    (unpacked / "Training/glioma_tumor").symlink_to(tmp_path / "elsewhere")
    assert bring("sartaj", unpacked, "--size", "32") == 0
    assert wanted == {file: (root / "sartaj" / file).read_bytes() for file in wanted}


def test_a_dead_link_and_a_name_in_latin_1_are_named(unpacked, root, tmp_path, capsys):
    dead = unpacked / "Training/glioma_tumor/2.jpg"
    dead.symlink_to(tmp_path / "gone.jpg")
    assert bring("sartaj", unpacked) == 1 and f"{dead}: a link that leads nowhere" in capsys.readouterr().err
    dead.unlink()
    (unpacked / os.fsdecode(b"B\xfccher.txt")).touch()  # beside the images: it would be listed as left out
    assert bring("sartaj", unpacked) == 1
    error = capsys.readouterr().err
    assert f"{unpacked}: holds 'B\\udcfccher.txt', a name that is not UTF-8; rename it" in error
    (unpacked / os.fsdecode(b"B\xfccher.txt")).unlink()
    unpacked.rename(tmp_path / os.fsdecode(b"\xfc"))
    assert bring("sartaj", tmp_path / os.fsdecode(b"\xfc")) == 1
    assert "\\udcfc', a name that is not UTF-8" in capsys.readouterr().err and left(root) == []


def test_dicom_files_in_capitals_are_read_as_they_are_taken(tmp_path):
    for i, name in enumerate(("1.dcm", "2.DCM")):
        assert remind.target(get("remind"), f"x/ReMIND-001/s/{name}") == f"ReMIND-001/s/{name}"
        dicom(tmp_path / "ReMIND-001/s" / name, InstanceNumber=i)
    assert len(remind.read(get("remind"), tmp_path, "ReMIND-001")) == 2
