"""`download.py` from an archive to a data set: another size or archive, a part, `--check`, interruptions, `--jpg`."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from archives import BR35H, CURATED, SCRIPT, TWICE, bring, cheng, folders, image, left, mat, saved, until
from torchvision.datasets import ImageFolder

from datasets import catalog, download
from datasets.catalog import DataError
from datasets.generator import phantom
from datasets.splitting import make_split
from datasets.store import index, jpg, manifest
from datasets.store.index import packed_by, read_manifest

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def sartaj(root, tmp_path):
    assert bring("sartaj", saved(tmp_path, folders("sartaj")), "--size", "32") == 0
    return root / "sartaj"


SETS = {
    "sartaj": ("sartaj", folders("sartaj", inside="download (1)/") | {"__MACOSX/x.txt": b""}, 16),
    "cheng": ("cheng", cheng(), 12),
    "44 classes": ("brain-tumor-44c", folders("brain-tumor-44c"), 88),
    "navoneel, twice in its archive": ("navoneel", TWICE, 7),
    "br35h": ("br35h", BR35H, 7),
}


@pytest.mark.parametrize("case", SETS)
def test_an_archive_becomes_a_data_set_and_a_second_run_does_nothing(case, root, tmp_path, capsys):
    name, files, images = SETS[case]
    archive, facts, home = saved(tmp_path, files), catalog.get(name), root / name
    assert bring(name, archive, "--size", "64") == 0
    assert sorted(p.name for p in home.iterdir()) == ["images.h5", "log.json", "manifest.csv", "raw", "raw.json"]
    rows = manifest.read_rows(home / "manifest.csv")
    assert len(rows) == images and [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {row["label"] for row in rows} == set(facts.classes)
    assert {row["published_split"] for row in rows} == set(facts.counts)
    assert all(manifest.sha256(home / "raw" / row["path"]) == row["file_sha256"] for row in rows)
    if facts.layout == "folders":
        assert all(facts.folders[Path(row["path"]).parent.name] == row["label"] for row in rows)
    with h5py.File(home / "images.h5") as store:
        assert store["image"].shape == (images, 64, 64)
        assert (store.attrs["name"], store.attrs["size"], store.attrs["crop"]) == (name, 64, facts.crop)
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*")}
    capsys.readouterr()
    assert bring(name, archive) == 0 and "nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in home.rglob("*")} == before and left(root) == [name]


def test_cheng_keeps_masks_patients_and_the_way_up(root, tmp_path, capsys):
    files = cheng(nested=False) | {"13.mat": mat(1, "mr040240 ", 5)}
    assert bring("cheng", saved(tmp_path, files), "--crop", "none", "--size", "60") == 0
    rows = {row["path"]: row for row in manifest.read_rows(root / "cheng/manifest.csv")}
    assert [tuple(rows[f"{i}.mat"][name] for name in ("label", "pid", "patient")) for i in (1, 8, 9, 13)] == [
        ("meningioma", "100360", "100360"),
        ("glioma", "MR040240", "MR040240"),
        ("pituitary", "MR040240B", "MR040240"),
        ("meningioma", "mr040240 ", "MR040240"),
    ]
    assert "each taken to be one person (1): 'MR040240' = 'mr040240'" in capsys.readouterr().err
    assert (rows["1.mat"]["width"], rows["1.mat"]["height"]) == ("60", "40")
    with h5py.File(root / "cheng" / "images.h5") as store:
        assert store["image"][0].min() < 10 and store["image"][0].max() > 245, "16 bits by the image's own range"
        assert np.argwhere(store["mask"][0, ..., 0]).min(axis=0).tolist() == [8, 20], "row 5 of 40, on 60×60"


def test_the_manifest_names_the_publishers_file_where_it_is_known(root, tmp_path, capsys):
    original = "Training/glioma/Tr-gl_0010.jpg"
    assert bring("brain-tumor-mri", saved(tmp_path, folders("brain-tumor-mri") | {original: image(99)})) == 0
    row = next(r for r in manifest.read_rows(root / "brain-tumor-mri/manifest.csv") if r["path"] == original)
    own = manifest.originals("brain-tumor-mri")[original]
    assert {key: row[key] for key in own} == own
    assert row["file_sha256"] == manifest.sha256(root / "brain-tumor-mri/raw" / original) != row["sha256"]
    assert download.main(["brain-tumor-mri", "--check"]) == 1, "17 images are not the published 7,023"
    output = capsys.readouterr()
    assert "train glioma: 3 images, published are 1321" in output.err


def test_another_size_is_made_from_raw_without_the_archive(root, tmp_path):
    archive = saved(tmp_path, folders("sartaj"))
    assert bring("sartaj", archive, "--size", "64") == 0
    archive.unlink()
    raw = {p: p.stat().st_mtime_ns for p in (root / "sartaj/raw").rglob("*")}
    for options, crop in ((("--size", "32", "--crop", "none"), "none"), (("--crop", "margin"), "margin")):
        assert bring("sartaj", None, *options) == 0 and packed_by("sartaj") == (crop, 32), "the size stays"
    assert {p: p.stat().st_mtime_ns for p in (root / "sartaj/raw").rglob("*")} == raw and left(root) == ["sartaj"]


def test_the_phantom_comes_the_same_way(root, monkeypatch, capsys):
    monkeypatch.setattr(phantom, "generate", partial(phantom.generate, patients=24, slices=2))
    assert download.main(["phantom", "--size", "64"]) == 0 and left(root) == ["phantom"]
    assert download.main(["phantom"]) == 0 and "as it is wanted, 64×64; nothing to do" in capsys.readouterr().out
    assert download.main(["phantom", "--check"]) == 0
    assert download.main(["phantom", "--size", "96"]) == 0
    assert capsys.readouterr().out.endswith(", in place of those of 64×64\n")


# ---- another archive, a part of one --------------------------------------------------------------------


def test_another_archive_is_packed_only_in_place_of_the_first(root, tmp_path, capsys):
    first, second = saved(tmp_path, folders("sartaj")), saved(tmp_path, folders("sartaj", side=50), "second.zip")
    assert bring("sartaj", first) == 0
    pixels = manifest.sha256(root / "sartaj/images.h5")
    assert bring("sartaj", shutil.copy(first, tmp_path / "renamed.zip")) == 0
    assert "nothing to do" in capsys.readouterr().out
    for options in ((), ("--crop", "none")):
        assert bring("sartaj", second, *options) == 1
        error = capsys.readouterr().err
        assert f"{second}: another archive" in error and "archive.zip" in error and "--replace" in error
        assert manifest.sha256(root / "sartaj/images.h5") == pixels and error.count("\n") == 1
    assert bring("sartaj", second, "--replace") == 0 and manifest.sha256(root / "sartaj/images.h5") != pixels
    spoilt = root / "sartaj/raw/Training/glioma_tumor/0.jpg"
    spoilt.write_bytes(b"spoilt")
    assert bring("sartaj", second, "--replace") == 0, "the same archive anew"
    assert spoilt.read_bytes() != b"spoilt"


def test_a_part_of_an_archive_is_refused_with_counts_or_taken_and_marked(root, tmp_path, capsys, monkeypatch):
    archive = saved(tmp_path, folders("sartaj"))
    assert download.main(["sartaj", "--archive", str(archive)]) == 1
    error = capsys.readouterr().err
    assert f"{archive}: 16 of the 3,264 images" in error and "--partial" in error and error.count("\n") == 1
    assert left(root) == []
    assert bring("sartaj", archive) == 0 and "a part of it, 16 of 3264" in capsys.readouterr().err
    assert bring("sartaj", None, "--crop", "none") == 0, "another crop of the part that is here"
    assert set(read_manifest("sartaj").partial) == {"16 of 3264"}
    facts = catalog.get("sartaj")
    counts = {split: dict.fromkeys(facts.classes, 2) for split in ("train", "test")}
    monkeypatch.setitem(catalog.CATALOG, "sartaj", replace(facts, counts=counts))  # the archive is then the whole
    assert bring("sartaj", archive, "--replace") == 0 and "partial" not in read_manifest("sartaj")


def test_the_committed_splits_refuse_a_part(small_phantom, root, tmp_path, monkeypatch):
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 0
    shutil.copytree(small_phantom / "phantom", root / "phantom")
    monkeypatch.setattr(index, "SPLITS", tmp_path / "splits")
    (tmp_path / "splits/overlap").mkdir(parents=True)
    (tmp_path / "splits/overlap/phantom+sartaj.csv").write_text("dataset,path,kind\n")
    table = read_manifest("sartaj")[["path", "label"]].assign(group="g", fold="0")
    table.to_csv(tmp_path / "splits/sartaj.csv", index=False)  # it names all of the images that are here
    splits = [("sartaj", "published", ""), ("sartaj", "cleaned", ""), ("sartaj", "patient", "")]
    splits += [("sartaj", "external", "cheng"), ("phantom", "external", "sartaj"), ("sartaj", "external", "phantom")]
    for name, protocol, test_on in splits:
        with pytest.raises(DataError, match=r"16 of 3264 images of 'sartaj' .*--archive FILE --replace"):
            make_split(name, protocol, test_on=test_on)


# ---- --check -------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARM = {
    "Training/glioma_tumor/0.jpg": lambda home: flip(home / "raw/Training/glioma_tumor/0.jpg"),
    "1 files are missing or changed": lambda home: (home / "raw/Training/glioma_tumor/0.jpg").unlink(),
    "images.h5 has other bytes": lambda home: flip(home / "images.h5"),
    "log.json does not vouch": lambda home: (home / "images.h5").write_bytes(b"x"),
}


def test_check_finds_the_harm(sartaj, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(manifest, "count_differences", lambda *_: [])  # tiny by intent
    shutil.copytree(sartaj, tmp_path / "whole")
    for said, harm in HARM.items():
        assert download.main(["sartaj", "--check"]) == 0 and "in order" in capsys.readouterr().out
        harm(sartaj)
        assert download.main(["sartaj", "--check"]) == 1 and said in capsys.readouterr().err
        shutil.rmtree(sartaj)
        shutil.copytree(tmp_path / "whole", sartaj)


# ---- interrupted, or started twice ---------------------------------------------------------------------


def test_two_at_once_the_second_names_the_first(root, tmp_path, capsys):
    root.mkdir()
    with (root / ".sartaj.lock").open("w") as lock:
        lock.write("process 4711 prepares it")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 1
        assert "process 4711" in capsys.readouterr().err
    assert bring("sartaj", tmp_path / "archive.zip") == 0


def children(pid: int) -> list[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_an_interrupted_run_is_taken_up_after_its_finished_unpacking(number, root, tmp_path, capsys):
    archive = saved(tmp_path, folders("sartaj", each=20, side=300))
    command = [sys.executable, str(SCRIPT), "sartaj", "--archive", str(archive), "--partial", "--workers", "2"]
    command += ["--size", "1024"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: len(children(run.pid)) == 3)  # two workers and multiprocessing's resource tracker
    workers = children(run.pid)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as the terminal does: to the workers, too
    else:
        run.send_signal(number)
    _, error = run.communicate(timeout=300)
    assert left(root) == [".sartaj.partial"]
    until(lambda: not any(alive(pid) for pid in workers))
    if number == signal.SIGINT:
        assert run.returncode == 130 and error == "interrupted; run the same command again to go on\n"
    assert bring("sartaj", archive, "--size", "64") == 0 and left(root) == ["sartaj"]
    assert "was unpacked before; going on from there" in capsys.readouterr().out
    assert len(manifest.read_rows(root / "sartaj/manifest.csv")) == 160


def test_leftovers_of_another_archive_start_anew(root, tmp_path, capsys):
    work = root / ".sartaj.partial"
    (work / "raw/Training").mkdir(parents=True)
    (work / "raw.json").write_text('{"archive": {"name": "archive.zip", "sha256": "other"}}')
    (work / "images.h5").write_bytes(b"half")
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 0
    assert "unpacked before" not in capsys.readouterr().out and left(root) == ["sartaj"]


# ---- the real archives ---------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CURATED)
def test_the_real_archives(name, real_sets, monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_DATA", str(real_sets))
    assert download.main([name, "--check"]) == 0
    rows, facts = manifest.read_rows(real_sets / name / "manifest.csv"), catalog.get(name)
    assert manifest.count(rows) == {s: dict(sorted(labels.items())) for s, labels in facts.counts.items()}
    if name == "cheng":
        assert (len({row["pid"] for row in rows}), len({row["patient"] for row in rows})) == (233, 209)
    else:
        originals = manifest.originals(name)
        assert len(originals) == facts.images
        assert all(row["sha256"] == originals[row["path"]]["sha256"] for row in rows)


# ---- --jpg DIR, and without a name ----------------------------------------------------------------------


def test_folders_hold_the_packed_images_by_split_and_class(sartaj, tmp_path):
    assert download.main(["sartaj", "--jpg", str(tmp_path / "jpg")]) == 0
    found = {split: ImageFolder(tmp_path / "jpg" / split) for split in ("train", "test")}
    with h5py.File(sartaj / "images.h5") as store:
        stored = store["image"][:]
    seen = []
    for images in found.values():
        assert images.classes == sorted(catalog.get("sartaj").classes)
        for path, _ in images.samples:
            seen.append(int(path.rpartition("/")[2].split("_")[0]))
            pixels = np.asarray(images.loader(path)).astype(int)
            assert pixels.shape == (32, 32, 3) and np.abs(pixels - stored[seen[-1], ..., None]).mean() < 8
    assert sorted(seen) == list(range(len(stored)))


def test_a_set_without_published_splits_has_classes_alone(root, tmp_path):
    assert bring("cheng", saved(tmp_path, cheng()), "--jpg", str(tmp_path / "jpg")) == 0
    assert len(ImageFolder(tmp_path / "jpg").samples) == 12


@pytest.mark.parametrize(
    ("there", "text"),
    [("into/jpg/mine.txt", "not an empty folder"), ("into/jpg", "not an empty folder"), ("into", "cannot be written")],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(there, text, sartaj, tmp_path, capsys):
    """Files that lie there, in the folder, in its place or above it."""
    folder = tmp_path / "into/jpg"
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    before = sorted(tmp_path.rglob("*"))
    assert download.main(["sartaj", "--jpg", str(folder)]) == 1
    assert text in (error := capsys.readouterr().err) and error.startswith(f"error: --jpg {folder}: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["a/b", ".hidden", '" "', "a\x01b"])
def test_a_label_that_is_no_name_of_a_folder_is_named(text, sartaj, tmp_path):
    table = (sartaj / "manifest.csv").read_text().replace("glioma,train", f"{text},train")
    (sartaj / "manifest.csv").write_text(table)
    (sartaj / "log.json").unlink()  # it vouches for other bytes
    with pytest.raises(DataError, match="is no name for a folder"):
        jpg.write("sartaj", tmp_path / "jpg")
    assert not (tmp_path / "jpg").exists()


def test_without_a_name_it_lists_what_there_is_and_how_to_bring_it_in(sartaj, root, capsys):
    capsys.readouterr()
    log = json.loads((sartaj / "log.json").read_text())
    (root / "cheng").mkdir()
    (root / "cheng/log.json").write_text("[]")
    assert download.main([]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert set(catalog.CATALOG) <= set(lines) and left(root) == ["cheng", "sartaj"]
    assert f"3,264      {log['images']} of 32×32, 0 MB" in lines["sartaj"]
    assert lines["cheng"].split()[2] == "no" and lines["cheng"].endswith("download.py cheng --archive FILE")
    assert lines["br35h"].endswith("download.py br35h") and lines["own"].endswith("own --folder DIR")
    with pytest.raises(SystemExit, match="2"):
        download.main(["--check"])
    assert "name it" in capsys.readouterr().err
