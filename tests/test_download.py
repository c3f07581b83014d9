"""The way in, as a user walks it: archive or Kaggle → folder; what goes wrong on the way leaves nothing half-written.

Archives are made here, a few tiny images each; `kaggle_server.py` is the Kaggle.  The real archives are tried where
BRAIN_MRI_ARCHIVES names their folder.
"""

import errno
import fcntl
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from kaggle_server import Kaggle
from PIL import Image

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.generator import phantom
from datasets.sources import unpacking
from datasets.store import manifest, packing
from datasets.store.images import ImageDataset, read_masks

SCRIPT = Path(download.__file__)
SETS = ("brain-tumor-mri", "sartaj")
PIDS = ("100360", "MR040240", "MR040240B")  # two patients


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """An empty data root, and a home without a Kaggle token."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return tmp_path / "data"


def picture(seed: int, side: int = 48, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(60, 255, (side, side), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def folders(name: str, each: int = 2, side: int = 48, kind: str = "JPEG", inside: str = "") -> dict[str, bytes]:
    """The files of a Kaggle set with `each` images in every class folder."""
    dataset = catalog.get(name)
    paths = [f"{split}/{folder}/{i}.jpg" for split in dataset.splits for folder in dataset.folders for i in range(each)]
    return {inside + path: picture(seed, side, kind) for seed, path in enumerate(paths)}


def mat(label: int, pid: str, seed: int) -> bytes:
    """One figshare file: HDF5 behind 512 bytes, transposed, 16 bits; the tumour is a box above the middle."""
    image = np.random.default_rng(seed).integers(500, 4000, (40, 60), dtype=np.int16)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 20:40] = 1
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["label"] = np.array([[float(label)]])
        group["PID"] = np.array([[ord(character)] for character in pid], np.uint16)
        group["image"], group["tumorMask"] = image.T, mask.T
    return buffer.getvalue()


def cheng(nested: bool = True) -> dict[str, bytes]:
    mats = {f"{i + 1}.mat": mat(i % 3 + 1, PIDS[i % 3], seed=i) for i in range(12)}
    if not nested:
        return mats
    inner = {f"brainTumorDataPublic_{i + 1}-{i + 6}.zip": dict(list(mats.items())[i : i + 6]) for i in (0, 6)}
    return {name: zipped(files) for name, files in inner.items()} | {"README.txt": b"Cheng", "cvind.mat": b"folds"}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(folder: Path, content: bytes | dict[str, bytes], name: str = "archive.zip") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else zipped(content))
    return path


def bring(name: str, archive: Path | None = None, *options: str) -> int:
    """`download.py` in this process, on one core."""
    with_archive = ["--archive", str(archive), "--partial"] if archive else []  # of a few images
    return download.main([name, *with_archive, "--workers", "1", *options])


def left(root: Path) -> list[str]:
    """What lies in the data root, the lock files apart."""
    return sorted(p.name for p in root.iterdir() if not p.name.endswith(".lock")) if root.exists() else []


# ---- archive → data set --------------------------------------------------------------------------------


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
    known = "Training/glioma/Tr-gl_0010.jpg"
    assert bring("brain-tumor-mri", saved(tmp_path, folders("brain-tumor-mri") | {known: picture(99)})) == 0
    row = next(r for r in manifest.read_rows(root / "brain-tumor-mri" / "manifest.csv") if r["path"] == known)
    own = manifest.originals("brain-tumor-mri")[known]
    assert {key: row[key] for key in own} == own
    assert row["file_sha256"] == manifest.sha256(root / "brain-tumor-mri" / "raw" / known) != row["sha256"]
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
        (lambda home: (home / "images.h5").write_bytes(b"x"), "images.h5 cannot be read"),
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


# ---- bad input -----------------------------------------------------------------------------------------


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
        ({"holiday/beach.jpg": picture(0)}, "it holds holiday/beach.jpg"),
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
        (all_broken(picture(0)[:-200]), "truncated"),
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


def test_two_at_once_the_second_is_told_who_is_first(root, tmp_path, capsys):
    root.mkdir()
    with (root / ".sartaj.lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 1
        assert "process 4711" in capsys.readouterr().err
    assert bring("sartaj", tmp_path / "archive.zip") == 0


# ---- interrupted ---------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_an_interrupted_run_is_taken_up_after_its_finished_unpacking(how, root, tmp_path):
    archive = saved(tmp_path, folders("sartaj", each=60, side=300))
    command = [
        sys.executable,
        str(SCRIPT),
        "sartaj",
        "--archive",
        str(archive),
        "--partial",
        "--workers",
        "2",
        "--size",
        "1024",
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: len(children(run.pid)) == 3)  # two workers and multiprocessing's resource tracker
    workers = children(run.pid)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as the terminal does: to the workers, too
    else:
        run.send_signal(how)
    _, error = run.communicate(timeout=30)
    assert left(root) == [".sartaj.partial"]
    until(lambda: not any(alive(pid) for pid in workers))
    if how == signal.SIGINT:
        assert run.returncode == 130
        assert error == "interrupted; run the same command again to go on\n"
    again = subprocess.run([*command[:-1], "64"], capture_output=True, text=True)
    assert (again.returncode, left(root)) == (0, ["sartaj"])
    assert "was unpacked before; going on from there" in again.stdout
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 480


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_leftovers_and_another_archive_start_anew(root, tmp_path, capsys):
    work = root / ".sartaj.partial"
    (work / "raw" / "Training").mkdir(parents=True)
    (work / "raw.json").write_text('{"archive": {"name": "archive.zip", "sha256": "other"}}')
    (work / "unpacking").mkdir()
    (work / "images.h5").write_bytes(b"half")
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 0
    assert "unpacked before" not in capsys.readouterr().out
    assert left(root) == ["sartaj"]


# ---- Kaggle --------------------------------------------------------------------------------------------

HANDLE = catalog.get("sartaj").kaggle
BIG = zipped(folders("sartaj", each=8, side=256, kind="PNG"))  # 4 MiB: the client writes whole MiB
POINTED = """
import runpy, sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def kaggle_command(kaggle: Kaggle, name: str = "sartaj") -> list[str]:
    """`python datasets/download.py NAME`, but for the address that Kaggle's client asks."""
    return [sys.executable, "-c", POINTED, kaggle.url, str(SCRIPT), name, "--partial", "--workers", "1"]


def token(home: Path, kaggle: Kaggle, key: str = "") -> None:
    folder = home / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": kaggle.user, "key": key or kaggle.key}))
    (folder / "kaggle.json").chmod(0o600)


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", ["kaggle.json", "KAGGLE_KEY", "KAGGLE_API_TOKEN"])
def test_a_set_comes_from_kaggle(kind, root, tmp_path, monkeypatch):
    with Kaggle({HANDLE: BIG}) as kaggle:
        if kind == "kaggle.json":
            token(tmp_path / "home", kaggle)
        else:
            monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
            monkeypatch.setenv(kind, kaggle.key)
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        assert [(s.range, s.sent) for s in kaggle.served] == [("", len(BIG))]
    assert left(root) == ["sartaj"]
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 64
    assert not list(root.rglob("*.zip*"))  # the archive is not kept beside its content


def test_a_killed_download_goes_on_where_it_stopped(root, tmp_path):
    part = root / ".sartaj.partial" / "download" / "brain-tumor-classification-mri.zip.part"
    with Kaggle({HANDLE: BIG}, cut=1, cut_at=len(BIG) // 2 + 2**16, stall=True) as kaggle:
        token(tmp_path / "home", kaggle)
        first = subprocess.Popen(kaggle_command(kaggle), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: part.exists() and part.stat().st_size >= 2**21)
        first.kill()
        first.communicate()
        here = part.stat().st_size
        assert here >= len(BIG) // 2 - 2**20
        assert left(root) == [".sartaj.partial"]
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        assert kaggle.served[-1].range == f"bytes={here}-"
        assert kaggle.served[-1].sent == len(BIG) - here
    assert left(root) == ["sartaj"]
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 64


def test_a_lost_connection_is_taken_up_within_the_run(root, tmp_path):
    with Kaggle({HANDLE: BIG}, cut=1, cut_at=len(BIG) // 2 + 2**16) as kaggle:
        token(tmp_path / "home", kaggle)
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        ranges = [s.range for s in kaggle.served]
        assert ranges == ["", f"bytes={2**21}-"]
        assert kaggle.served[1].sent == len(BIG) - 2**21
    assert left(root) == ["sartaj"]


@pytest.mark.parametrize(
    ("key", "served", "content", "said"),
    [
        ("", HANDLE, None, "save it as ~/.kaggle/kaggle.json or set KAGGLE_USERNAME and KAGGLE_KEY"),
        ("wrong", HANDLE, BIG, "Kaggle refused the token (401)"),
        ("right", "someone/else", BIG, f"Kaggle does not give '{HANDLE}' out (403)"),
        ("right", HANDLE, BIG[: len(BIG) // 2], "not a whole zip archive"),
    ],
    ids=["no token", "wrong token", "unknown handle", "a cut archive at Kaggle"],
)
def test_what_kaggle_refuses_is_said_with_a_remedy(key, served, content, said, root, tmp_path):
    with Kaggle({served: content or b""}) as kaggle:
        if key:
            token(tmp_path / "home", kaggle, key if key == "wrong" else "")
        done = run(kaggle_command(kaggle))
        assert kaggle.refused == (key == "wrong")
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") <= 3
    assert left(root) == []


# ---- the real archives ---------------------------------------------------------------------------------


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
        known = manifest.originals(name)
        assert len(known) == dataset.images
        assert all(row["sha256"] == known[row["path"]]["sha256"] for row in rows)
