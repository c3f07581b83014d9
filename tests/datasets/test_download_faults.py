"""Faults on the way in: bad archives, wrong commands, broken images and full disks leave nothing half-written."""

import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile

import h5py
import pytest
from archives import SCRIPT, bring, cheng, folders, image, left, run, saved, zipped

from datasets import download
from datasets.sources import unpacking
from datasets.store import manifest, packing

pytestmark = pytest.mark.usefixtures("root")


def link(name: str) -> bytes:
    buffer = io.BytesIO(zipped(folders("sartaj")))
    with zipfile.ZipFile(buffer, "a") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


def without(folder: str) -> dict[str, bytes]:
    return {name: content for name, content in folders("sartaj").items() if folder not in name} | {folder: b""}


def all_broken(content: bytes) -> dict[str, bytes]:
    return dict.fromkeys(folders("sartaj"), content)


def damaged() -> bytes:
    content = bytearray(zipped(folders("sartaj")))
    content[400] ^= 255
    return bytes(content)


WHOLE = zipped(folders("sartaj"))
BOMB = zipped({"Training/glioma_tumor/0.jpg": bytes(100 * 2**20)}, zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (folders("brain-tumor-mri"), "looks like brain-tumor-mri"),
        (cheng(), "looks like cheng"),
        ({"holiday/beach.jpg": image(0)}, "it holds holiday/beach.jpg"),
        (WHOLE[: len(WHOLE) // 2], "not a whole zip archive"),
        (b"<html>log in first</html>", "not a whole zip archive"),
        (damaged(), "not a whole zip archive"),
        (folders("sartaj") | {"../../evil.jpg": b"x"}, "'../../evil.jpg' would be written outside"),
        (folders("sartaj") | {"Training/glioma_tumor/../../../e.jpg": b"x"}, "outside its folder"),
        (folders("sartaj") | {"/etc/evil.jpg": b"x"}, "outside its folder"),
        (folders("sartaj") | {"C:\\evil.jpg": b"x"}, "outside its folder"),
        (link("Training/glioma_tumor/link.jpg"), "is a link"),
        (BOMB, "zip bomb"),
        (folders("sartaj") | {"copy/" + next(iter(folders("sartaj"))): b"x"}, "twice"),
        (without("Training/glioma_tumor/"), "class folder Training/glioma_tumor holds no image"),
        (all_broken(b"404: not found"), "16 of 16 images are broken"),
        (all_broken(image(0)[:-200]), "truncated"),
    ],
    ids=[
        "other set", "cheng", "holiday", "cut short", "web page", "damaged", "dots", "dots inside", "absolute", "drive",
        "link", "bomb", "twice", "empty class folder", "text named .jpg", "truncated JPEG",
    ],
)  # fmt: skip
def test_a_bad_archive_is_refused_and_nothing_is_left(content, said, root, tmp_path, capsys):
    archive = saved(tmp_path, content)
    assert bring("sartaj", archive) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert archive.name in error or "sartaj" in error
    assert error.count("\n") <= 3
    assert left(root) == []
    assert {p.name for p in tmp_path.iterdir()} <= {"archive.zip", "data", "home"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["brain-tumour-mri"], 2, "did you mean 'brain-tumor-mri'?"),
        (["sartaj", "--check"], 1, "python datasets/download.py sartaj"),
        (["sartaj", "--archive", "nowhere.zip"], 1, "nowhere.zip: no such file"),
        (["cheng"], 1, "https://figshare.com/articles/dataset/brain_tumor_dataset/1512427"),
        (["sartaj", "--size", "3"], 2, "16 to 2048"),
        (["sartaj", "--workers", "0"], 2, "at least 1"),
        (["sartaj", "--seed", "1"], 2, "not generated"),
        (["phantom", "--archive", "a.zip"], 2, "is generated"),
    ],
)
def test_a_wrong_command_says_what_to_do(arguments, code, said, root, capsys):
    try:
        assert download.main(arguments) == code
    except SystemExit as stop:  # argparse, for usage
        assert stop.code == code
    assert said in capsys.readouterr().err
    assert left(root) == []


@pytest.mark.parametrize(("broken", "code"), [(1, 0), (2, 1)])
def test_one_broken_image_in_a_hundred_is_left_out_and_two_condemn_the_archive(broken, code, root, tmp_path, capsys):
    files = folders("sartaj", each=13)  # 104 images
    harmed = list(files)[3 : 3 + broken]
    files |= dict.fromkeys(harmed, b"404: not found")
    assert bring("sartaj", saved(tmp_path, files)) == code
    error = capsys.readouterr().err
    for path in harmed:
        assert f"{path}: not an image" in error
    if code:
        assert left(root) == []
        return
    log = json.loads((root / "sartaj" / "log.json").read_text())
    assert log["broken"] == [{"path": harmed[0], "reason": "not an image"}]
    rows = manifest.read_rows(root / "sartaj" / "manifest.csv")
    assert len(rows) == log["images"] == 103
    assert harmed[0] not in {row["path"] for row in rows}
    assert h5py.File(root / "sartaj" / "images.h5")["image"].shape[0] == 103


@pytest.mark.parametrize("step", [(unpacking, "unpack"), (packing, "pack"), (manifest, "write_manifest")])
@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_what_the_disk_refuses_is_said_and_nothing_is_left(number, said, step, root, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*step, refuse)
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "BRAIN_MRI_DATA" in error
    assert left(root) == []


SMALL_DISK = """
mount -t tmpfs -o size=1m tmpfs "$1" || exit 77
shift
"$@"
code=$?
ls -A "$BRAIN_MRI_DATA"
exit $code
"""
UNCHECKED = """
import sys
from datasets import download
from datasets.sources import fetch
fetch.require_space = lambda *_: None
sys.exit(download.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("size", [64, 512], ids=["full at unpacking", "full at packing"])
@pytest.mark.parametrize("checked", [True, False], ids=["seen before", "seen when it happens"])
def test_a_disk_that_is_really_full(size, checked, tmp_path, monkeypatch):
    """On a file system of 1 MiB that only this process sees, so that nothing stays mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("BRAIN_MRI_DATA", str(disk / "data"))
    archive = saved(tmp_path, folders("sartaj", each=6, side=200 if size == 64 else 40))
    script = [str(SCRIPT)] if checked else ["-c", UNCHECKED]
    arguments = ["sartaj", "--archive", str(archive), "--partial", "--size", str(size), "--workers", "1"]
    done = run(["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(disk), sys.executable, *script, *arguments])
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    assert done.returncode == 1
    assert ("MB are needed" if checked else "the disk is full") in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ".sartaj.lock\n"


MORE_THAN_EXPECTED = """
import sys
from pathlib import Path
from datasets.store import packing
from datasets.store.preprocess import RawImage
import numpy as np
def read(path):
    noise = np.random.default_rng(int(path)).integers(0, 255, (64, 64), dtype=np.uint8)
    return [RawImage(noise)]
try:
    packing.pack(read, [str(i) for i in range(4000)], Path(sys.argv[1]), size=64, slices=2, crop="none", workers=1)
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
"""
PHANTOM = """
import os, sys
from pathlib import Path
from datasets.catalog import DataError
from datasets.generator import phantom
try:
    phantom.generate(Path(sys.argv[1]).parent, size=64, patients=24, slices=3)
except DataError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [(MORE_THAN_EXPECTED, "refused: No space left"), (PHANTOM, "No space left on device; free space")],
    ids=["a store that outgrows what was set aside", "phantom"],
)
def test_hdf5_does_not_crash_where_the_disk_is_full(code, said, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("BRAIN_MRI_DATA", str(disk))
    program = [sys.executable, "-c", code, str(disk / "images.h5")]
    script = SMALL_DISK.replace("1m", "6m") if "pack" in code else SMALL_DISK
    done = run(["unshare", "--mount", "sh", "-c", script, "sh", str(disk), *program])
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    assert done.returncode == 1, f"it ended with {done.returncode}"
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_may_not_be_written(root, tmp_path):
    """In a process without root's right to write everywhere."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not here")
    archive = saved(tmp_path, folders("sartaj"))
    root.mkdir()
    root.chmod(0o555)
    drop = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, str(SCRIPT), "sartaj", "--archive", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True)
    root.chmod(0o755)
    assert done.returncode == 1
    assert "cannot be written (Permission denied); set BRAIN_MRI_DATA" in done.stderr
    assert "Traceback" not in done.stderr
