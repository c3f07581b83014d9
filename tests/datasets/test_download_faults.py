"""Faults on the way in: bad archives and folders, wrong commands, broken images and full disks leave nothing behind."""

import errno
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import pytest
from archives import BR35H, SCRIPT, TWICE, bring, cheng, folders, image, left, run, saved, zipped

from datasets import download
from datasets.sources import unpacking
from datasets.store import manifest, packing
from datasets.store.index import read_manifest

pytestmark = pytest.mark.usefixtures("root")

SARTAJ = folders("sartaj")
WHOLE = zipped(SARTAJ)
BOMB = zipped({"Training/glioma_tumor/0.jpg": bytes(100 * 2**20)}, zipfile.ZIP_DEFLATED)
EMPTY = {k: v for k, v in SARTAJ.items() if "Training/glioma_tumor/" not in k} | {"Training/glioma_tumor/": b""}


def backslashed(files: dict[str, bytes]) -> dict[str, bytes]:
    """As .NET packed them before 4.6.1, folders as entries of their own."""
    entries = {f"{name.rpartition('/')[0]}/": b"" for name in files if "/" in name} | files
    return {name.replace("/", "\\"): content for name, content in entries.items()}


def link() -> bytes:
    buffer = io.BytesIO(WHOLE)
    with zipfile.ZipFile(buffer, "a") as archive:
        member = zipfile.ZipInfo("Training/glioma_tumor/link.jpg")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


def said_to_be(local: int, central: int, value: int) -> bytes:
    """An archive whose members have another number at a place of their local and their central header."""
    changed = bytearray(WHOLE)
    for signature, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = changed.find(signature)
        while start >= 0:
            changed[start + place : start + place + 2] = struct.pack("<H", value)
            start = changed.find(signature, start + 4)
    return bytes(changed)


def damaged(method: int, place: float) -> bytes:
    content = bytearray(zipped(folders("sartaj", side=100), method))
    start = int(place * 2000)
    content[start : start + 64] = bytes(64)
    return bytes(content)


BAD = {
    "other set": (folders("brain-tumor-mri"), "looks like brain-tumor-mri"),
    "cheng": (cheng(), "looks like cheng"),
    "holiday": ({"holiday/beach.jpg": image(0)}, "it holds holiday/beach.jpg"),
    "cut short": (WHOLE[: len(WHOLE) // 2], "not a whole zip archive"),
    "web page": (b"<html>log in first</html>", "not a whole zip archive"),
    "Deflate64": (said_to_be(8, 10, 9), "pass the folder: --archive FOLDER"),
    "encrypted": (said_to_be(6, 8, 1), "is encrypted; unpack it by hand and pass the folder"),
    "dots": (SARTAJ | {"../../evil.jpg": b"x"}, "'../../evil.jpg' would be written outside"),
    "dots inside": (SARTAJ | {"Training/glioma_tumor/../../../e.jpg": b"x"}, "outside its folder"),
    "absolute": (SARTAJ | {"/etc/evil.jpg": b"x"}, "outside its folder"),
    "drive": (SARTAJ | {"C:\\evil.jpg": b"x"}, "outside its folder"),
    "drive and no folder": (backslashed(SARTAJ) | {"c:evil.jpg": b"x"}, "outside its folder"),
    "dots and backslashes": (backslashed(SARTAJ) | {"Training\\..\\..\\evil.jpg": b"x"}, "outside its folder"),
    "another host": (backslashed(SARTAJ) | {"\\\\host\\evil.jpg": b"x"}, "outside its folder"),
    "link": (link(), "is a link"),
    "bomb": (BOMB, "zip bomb"),
    "twice": (SARTAJ | {"copy/" + next(iter(SARTAJ)): b"x"}, "twice, with other content"),
    "empty class folder": (EMPTY, "class folder Training/glioma_tumor holds no image"),
    "text named .jpg": (dict.fromkeys(SARTAJ, b"404: not found"), "16 of 16 images are broken"),
    "truncated JPEG": (dict.fromkeys(SARTAJ, image(0)[:-200]), "truncated"),
} | {
    f"damaged {method} {place}": (damaged(method, place), "not a whole zip archive")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED)
    for place in (0.2, 0.8)
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_is_refused_in_one_line_and_nothing_is_left(case, root, tmp_path, capsys):
    content, said = BAD[case]
    assert bring("sartaj", saved(tmp_path, content)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert ("archive.zip" in error or "sartaj" in error) and ("take" in error or "download" in error or "pass" in error)
    assert left(root) == [] and {p.name for p in tmp_path.iterdir()} <= {"archive.zip", "data", "home"}


def test_sets_are_told_apart_by_their_file_names_in_archives_and_folders(tmp_path, capsys):
    for name, files, other in (("br35h", TWICE, "navoneel"), ("navoneel", BR35H, "br35h")):
        archive, folder = saved(tmp_path, files), tmp_path / other
        zipfile.ZipFile(archive).extractall(folder)
        for source in (archive, folder):
            assert bring(name, source) == 1
            assert f"this is not {name}, it looks like {other}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["brain-tumour-mri"], 2, "did you mean 'brain-tumor-mri'?"),
        (["sartaj", "--check"], 1, "python datasets/download.py sartaj"),
        (["sartaj", "--archive", "nowhere.zip"], 1, "nowhere.zip: no such file"),
        (["sartaj", "--archive", "x" * 300], 1, "no such file or folder"),
        (["cheng"], 1, "https://figshare.com/articles/dataset/brain_tumor_dataset/1512427"),
        (["own"], 1, "name your folder with --folder"),
        (["own", "--folder", str(SCRIPT)], 1, "not a folder; --folder wants one"),
        (["sartaj", "--size", "3"], 2, "16 to 2048"),
        (["sartaj", "--workers", "0"], 2, "at least 1"),
        (["phantom", "--archive", "a.zip"], 2, "is generated"),
        (["brats2020", "--crop", "margin"], 2, "volumes are stored whole"),
        (["cheng", "--folder", "x"], 2, "are for 'own' alone"),
        (["own", "--archive", "x"], 2, "name a folder with --folder"),
        (["own", "--labels", "x.csv", "--columns", "image"], 2, "takes image=NAME,label=NAME and the like"),
        (["own", "--columns", "image=a"], 2, "--columns goes with --labels FILE or --folder DIR"),
        (["own", "--channels", "a,a"], 2, "names of channels, with commas between"),
        (["sartaj", "--replace"], 2, "--replace goes with --archive FILE"),
        (["sartaj", "--masks-from", "sartaj"], 1, "'sartaj' has no masks"),
    ],
)
def test_a_wrong_command_says_what_to_do(arguments, code, said, root, capsys):
    try:
        assert download.main(arguments) == code
    except SystemExit as stop:  # argparse, for usage
        assert stop.code == code
    assert said in capsys.readouterr().err and left(root) == []


@pytest.mark.parametrize(("broken", "code"), [(1, 0), (2, 1)])
def test_one_broken_image_in_a_hundred_is_left_out_and_two_condemn_the_archive(broken, code, root, tmp_path, capsys):
    files = folders("sartaj", each=13)  # 104 images
    harmed = list(files)[3 : 3 + broken]
    assert bring("sartaj", saved(tmp_path, files | dict.fromkeys(harmed, b"404: not found"))) == code
    error = capsys.readouterr().err
    assert all(path in error for path in harmed)
    if code == 0:
        log = json.loads((root / "sartaj/log.json").read_text())
        assert [entry["path"] for entry in log["broken"]] == harmed and log["images"] == 103
        assert harmed[0] not in set(read_manifest("sartaj").path)
        assert h5py.File(root / "sartaj/images.h5")["image"].shape[0] == 103


# ---- what is taken as it comes -------------------------------------------------------------------------


def packed(root: Path, name: str, source: Path) -> list[bytes]:
    """images.h5 and manifest.csv of a set that is brought in and taken away again."""
    assert bring(name, source, "--size", "32") == 0
    found = [(root / name / file).read_bytes() for file in ("images.h5", "manifest.csv")]
    shutil.rmtree(root / name)
    return found


@pytest.mark.parametrize(("name", "files"), [("sartaj", SARTAJ), ("cheng", cheng())], ids=["sartaj", "cheng"])
def test_backslashes_and_folders_unpacked_by_hand_give_the_same_set(name, files, root, tmp_path, capsys):
    wanted = packed(root, name, saved(tmp_path, {f"download (1)/{path}": content for path, content in files.items()}))
    assert packed(root, name, saved(tmp_path, backslashed(files), "backslashes.zip")) == wanted
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(saved(tmp_path, files)).extractall(folder)
    before = sorted(folder.rglob("*"))
    assert packed(root, name, folder) == wanted and sorted(folder.rglob("*")) == before, "it is left as it is"
    for inner in folder.glob("*.zip"):
        zipfile.ZipFile(inner).extractall(folder / inner.stem)
        inner.unlink()
    assert packed(root, name, folder) == wanted
    assert bring(name, folder) == 0
    next(path for path in folder.rglob("*") if path.name in ("0.jpg", "1.mat")).unlink()
    assert bring(name, folder) == 1 and "another archive" in capsys.readouterr().err


def test_links_in_a_folder_are_followed_and_what_cannot_be_named_is_named(root, tmp_path, capsys):
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(saved(tmp_path, SARTAJ)).extractall(unpacked)
    wanted = packed(root, "sartaj", unpacked)
    (unpacked / "Training/glioma_tumor").rename(tmp_path / "elsewhere")
    (unpacked / "Training/glioma_tumor").symlink_to(tmp_path / "elsewhere")
    assert packed(root, "sartaj", unpacked) == wanted
    dead = unpacked / "Training/glioma_tumor/2.jpg"
    dead.symlink_to(tmp_path / "gone.jpg")
    assert bring("sartaj", unpacked) == 1 and f"{dead}: a link that leads nowhere" in capsys.readouterr().err
    dead.unlink()
    odd = os.fsdecode(b"B\xfccher.txt")
    (unpacked / odd).touch()  # beside the images: it would be listed as left out
    assert bring("sartaj", unpacked) == 1
    assert f"{unpacked}: holds 'B\\udcfccher.txt', a name that is not UTF-8; rename it" in capsys.readouterr().err
    unpacked.rename(tmp_path / odd)
    assert bring("sartaj", tmp_path / odd) == 1 and "a name that is not UTF-8" in capsys.readouterr().err


def test_images_of_every_usual_suffix_are_read_and_others_listed(root, tmp_path):
    kinds = {".tif": "TIFF", ".TIFF": "TIFF", ".gif": "GIF", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
    more = {f"Training/glioma_tumor/x{suffix}": image(7, kind=kind) for suffix, kind in kinds.items()}
    assert bring("sartaj", saved(tmp_path, SARTAJ | more | {"Training/glioma_tumor/scan.dcm": b"DICM"})) == 0
    assert len(read_manifest("sartaj")) == 16 + len(kinds)
    assert json.loads((root / "sartaj/log.json").read_text())["left_out"] == ["Training/glioma_tumor/scan.dcm"]


# ---- disks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [(unpacking, "unpack"), (packing, "pack"), (manifest, "write_manifest")])
@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written")])
def test_what_the_disk_refuses_is_said_and_nothing_is_left(number, said, step, root, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*step, refuse)
    assert bring("sartaj", saved(tmp_path, SARTAJ)) == 1
    error = capsys.readouterr().err
    assert said in error and "BRAIN_MRI_DATA" in error and left(root) == []


FULL = """
import functools, os, sys
from datasets import download
from datasets.generator import phantom
phantom.generate = functools.partial(phantom.generate, patients=24, slices=3)
for line in sys.stdin:
    megabytes, *words = line.split()
    if os.system(f"mount -t tmpfs -o size={megabytes}m tmpfs $BRAIN_MRI_DATA"):
        sys.exit(77)
    print(words[0], download.main(words), *os.listdir(os.environ["BRAIN_MRI_DATA"]))
"""


def test_a_disk_that_is_really_full_is_one_line_and_no_crash(root, tmp_path):
    """While unpacking, packing or drawing; on small file systems that only that process sees."""
    root.mkdir()
    words = "sartaj --partial --workers 1 --size"
    big = saved(tmp_path, folders("sartaj", each=6, side=200), "big.zip")
    small = saved(tmp_path, folders("sartaj", each=6, side=40), "small.zip")
    tries = [f"1 {words} 64 --archive {big}", f"6 {words} 512 --archive {small}", "1 phantom --size 64"]
    command = ["unshare", "--mount", sys.executable, "-c", FULL]
    done = subprocess.run(command, input="\n".join(tries), capture_output=True, text=True, timeout=300)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    assert done.stdout.splitlines() == ["sartaj 1 .sartaj.lock"] * 2 + ["phantom 1 .phantom.lock"]
    assert ["the disk is full" in line for line in done.stderr.splitlines()] == [True] * 3 and done.returncode == 0


def test_what_may_not_be_read_or_written_is_one_line(root, tmp_path, monkeypatch):
    """In a process without root's right to read and write everything."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not here")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    zipfile.ZipFile(saved(tmp_path, SARTAJ, "whole.zip")).extractall(tmp_path / "some")
    own = {"theirs/t.csv": b"image\n", "ours/a/0.png": b"", "ours/b/deep/0.png": b"", "archive.zip": b"", "data/x": b""}
    zipfile.ZipFile(saved(tmp_path, own, "own.zip")).extractall(tmp_path)
    secret = "some/Training/glioma_tumor/0.jpg"
    closed = [tmp_path / name for name in ("theirs", "ours/b/deep", "archive.zip", secret)]
    for path in closed:
        path.chmod(0o000)
    (tmp_path / "data").chmod(0o555)
    wanted = {
        "own --labels theirs/t.csv": "theirs/t.csv: no such file or folder, or not one that you may read",
        "own --folder ours": "ours/b/deep: cannot be read (Permission denied); ",
        "sartaj --archive archive.zip": "archive.zip: cannot be read (Permission denied); ",
        "sartaj --archive some": f"{secret}: cannot be read (Permission denied); ",
        "sartaj --archive whole.zip": "cannot be written (Permission denied); ",
    }
    monkeypatch.chdir(tmp_path)
    code = "import sys; from datasets import download; print(*[download.main(a.split()) for a in sys.argv[1:]])"
    done = run([*drop, sys.executable, "-c", code, *wanted])
    assert done.stdout.split() == ["1"] * 5, done.stderr
    for error, said in zip(done.stderr.splitlines(), wanted.values(), strict=True):
        assert said in error
    for path in (*closed, tmp_path / "data"):
        path.chmod(0o755)
