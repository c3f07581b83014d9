"""Stores are packed in order, the same bytes on any number of cores, and read alike from memory, disk and workers."""

import fcntl
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from archives import encoded
from PIL import Image
from scenes import disc, read_png, scene
from store_copies import copied, spoil_chunk
from torch.utils.data import DataLoader

from datasets.catalog import DataError, UnknownName
from datasets.store import index, packing, preprocess
from datasets.store.images import ImageDataset, read_masks, scaled
from datasets.store.index import read_manifest, require, turns
from datasets.transforms import TRANSFORMS, clahe, level, undo


def packed(folder: Path, workers: int):
    """Forty images, one of them broken, as packed by so many processes: facts, broken ones, file."""
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    for i in range(40):
        image = scene((20 + i, 150, 30, 180 - i, 160))[: 120 + i] + rng.integers(0, 20, dtype=np.uint8)
        (raw / f"{i:02}.png").write_bytes(encoded(Image.fromarray(image)))
    (raw / "17.png").write_text("not an image")
    paths, target = sorted(p.name for p in raw.iterdir()), folder / f"{workers}.h5"
    return *packing.pack(partial(read_png, raw), paths, target, size=64, workers=workers), target


def test_packing_keeps_the_order_and_leaves_broken_images_out(tmp_path):
    stored, broken, target = packed(tmp_path, workers=1)
    assert [row["path"] for row in stored] == [f"{i:02}.png" for i in range(40) if i != 17]
    assert broken == [{"path": "17.png", "reason": "not an image"}]
    assert target.read_bytes() == packed(tmp_path, workers=2)[2].read_bytes(), "the same bytes on two cores"
    with h5py.File(target) as store:
        assert store["image"].shape == (39, 64, 64) and store["mask"].shape == (39, 64, 64, 1)
        assert store["image"].chunks == (1, 64, 64)
        assert dict(store.attrs) == {"size": 64, "crop": "margin", "version": packing.VERSION}
        for row in (0, 16, 17, 38):
            alone = preprocess.prepare(read_png(tmp_path / "raw", stored[row]["path"])[0], 64)
            assert np.array_equal(store["image"][row], alone.image)
            assert np.array_equal(store["mask"][row], alone.mask)


DOORS = """
import sys
import numpy as np
from datasets import hdf5
from datasets.store.images import ImageDataset, read_masks
for door in (
    lambda: ImageDataset("phantom", np.arange(3), in_memory=False)[2],
    lambda: read_masks("phantom", np.arange(2)),
    lambda: hdf5.unlocked(sys.argv[1], "w"),
):
    try:
        door()
    except hdf5.DataError as error:
        print(error)
"""


@pytest.mark.parametrize("asked", ["", "TRUE"])
def test_a_locked_store_is_read_or_the_lock_is_named_and_nothing_called_damaged(small_phantom, tmp_path, asked):
    with (small_phantom / "phantom/images.h5").open("rb") as held, (tmp_path / "new.h5").open("wb") as made:
        for file in (held, made):
            fcntl.flock(file, fcntl.LOCK_EX)
        env = os.environ | {"BRAIN_MRI_DATA": str(small_phantom), "HDF5_USE_FILE_LOCKING": asked}
        command = [sys.executable, "-c", DOORS, made.name]
        said = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert len(said) == (3 if asked else 0) and not any("download.py" in line for line in said), said
    assert all("not damaged, but locked" in line and "HDF5_USE_FILE_LOCKING=FALSE" in line for line in said), said


@pytest.mark.parametrize("name", ["image", "mask"])
def test_an_image_or_mask_that_changed_on_disk_is_not_read(name, small_phantom, tmp_path, monkeypatch):
    spoil_chunk(copied(small_phantom, tmp_path, monkeypatch) / "images.h5", name, 5)
    with pytest.raises(DataError, match=f"{name} 5 changed on disk"):
        ImageDataset("phantom", np.arange(12), channels="all", masks=True)
    read_masks("phantom", np.arange(5))
    if name == "mask":
        with pytest.raises(DataError, match="mask 5 changed on disk"):
            read_masks("phantom", np.arange(12))


def test_a_killed_worker_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match="--workers 1"):
        packing.pack(os._exit, [9] * 2 * packing.BATCH, tmp_path / "images.h5", size=64, workers=2)


def test_a_set_of_any_size_is_packed_in_the_memory_of_a_few_batches():
    taken: list[int] = []
    batches = (taken.append(i) or i for i in range(100))
    results = packing.in_order(abs, batches, workers=2, ahead=3)
    assert next(results) == 0 and len(taken) == 2 * 3 + 1 and list(results) == list(range(1, 100))


def test_memory_and_disk_and_workers_give_the_same_batches(roots):
    rows = np.array([5, 0, 17, 3, 8])
    memory, disk = (ImageDataset("phantom", rows, image_size=64, in_memory=m) for m in (True, False))
    wanted = memory.batch(range(5))
    batches = list(DataLoader(disk, 2, collate_fn=disk.collate, num_workers=2))
    assert torch.equal(torch.cat([b["image"] for b in batches]), wanted["image"])
    assert torch.equal(torch.cat([b["row"] for b in batches]), torch.tensor(rows))
    assert torch.equal(disk[2]["image"], wanted["image"][2])


def test_pixels_and_labels_are_those_of_the_file(roots):
    data = ImageDataset("phantom", [4], image_size=64, channels="all")
    with h5py.File(require("phantom") / "images.h5") as file:
        assert np.array_equal(data[0]["image"].permute(1, 2, 0), file["image"][4])
    assert data.facts.classes[data[0]["label"]] == read_manifest("phantom").label[4]
    grey = ImageDataset("phantom", [4], image_size=64)[0]["image"]
    assert torch.equal(grey[0], data[0]["image"][1]), "grey shows T1c"
    for size in (32, 100):
        image = ImageDataset("phantom", [4], image_size=size)[0]["image"]
        assert image.shape == (1, size, size) and abs(image.float().mean() - grey.float().mean()) < 2
    for kind in (torch.uint8, torch.uint16):
        assert scaled(torch.tensor([0, torch.iinfo(kind).max], dtype=kind)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_mask_s_pixel_belongs_to_what_covers_half_of_it(roots, in_memory):
    stored = read_masks("phantom", np.arange(84))
    row = int(stored.sum(axis=(1, 2, 3)).argmax())
    wanted = stored[row].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)) >= 0.5
    small = ImageDataset("phantom", [row], image_size=32, masks=True, in_memory=in_memory)[0]["mask"]
    assert np.array_equal(small.numpy().astype(bool), wanted) and wanted.any()


def test_a_manifest_of_another_length_is_refused(small_phantom, tmp_path, monkeypatch):
    home = copied(small_phantom, tmp_path, monkeypatch)
    with (home / "manifest.csv").open("a") as file:
        file.write((home / "manifest.csv").read_text().splitlines()[-1] + "\n")
    with pytest.raises(DataError, match="manifest rows"):
        ImageDataset("phantom", [0])


def test_a_worker_that_is_started_anew_knows_the_files_again(small_phantom, tmp_path, monkeypatch):
    """Where its hash seed, on which the order of a set of paths depends, is another one."""
    home = copied(small_phantom, tmp_path, monkeypatch)
    data = ImageDataset("phantom", [4, 7], image_size=64, in_memory=False)
    (tmp_path / "data.pickle").write_bytes(pickle.dumps(data))
    files = [home / name for name in index.FILES]

    def started(code: str, seed: int, *arguments: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    order, here = "import pathlib, sys; print(*{*map(pathlib.Path, sys.argv[1:])})", " ".join(map(str, {*files}))
    seed = next(seed for seed in range(100) if started(order, seed, *files).stdout != f"{here}\n")
    code = "import os, pickle, sys; load = lambda: pickle.load(open(sys.argv[1], 'rb')).batch([0])['row'].tolist(); "
    code += "print(load()); os.utime(sys.argv[2], (0, 0)); load()"
    done = started(code, seed, tmp_path / "data.pickle", home / "manifest.csv")
    assert done.stdout == "[4]\n" and "replaced since it was opened" in done.stderr


# ---- views ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMS)
def test_undo_turns_every_transform_back(name):
    image = np.random.default_rng(0).integers(0, 255, (12, 12, 2), dtype=np.uint8)
    turned = np.stack([TRANSFORMS[name](image[..., c]) for c in range(2)], axis=2)
    assert np.array_equal(undo(turned, name), image)


def test_the_upright_view_undoes_the_planted_transposition(roots):
    manifest = read_manifest("phantom")
    rows = np.flatnonzero(manifest.transposed == "1")[:3]
    stored, upright = (ImageDataset("phantom", rows, image_size=64, view=v) for v in ("stored", "upright"))
    assert np.array_equal(upright[1]["image"], stored[1]["image"].swapaxes(1, 2))
    rest = np.flatnonzero(manifest.transposed == "0")[:1]
    assert np.array_equal(*(ImageDataset("phantom", rest, view=v)[0]["image"] for v in ("stored", "upright")))


def test_turns_of_a_real_set_come_from_its_committed_table(monkeypatch, tmp_path):
    table = pd.read_csv(index.SPLITS / "brain-tumor-mri.csv", dtype=str, keep_default_na=False)
    found = turns("brain-tumor-mri", table[["path"]])
    assert (found == table["transform"].replace("", "upright")).all() and set(found) == {"upright", "flipped-lr"}
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    with pytest.raises(DataError, match="no split table says"):
        turns("sartaj", pd.DataFrame({"path": ["a"]}))


def test_views_and_classes_that_cannot_be_had_say_why(roots):
    with pytest.raises(UnknownName, match="did you mean 'upright'"):
        ImageDataset("phantom", [0], view="uprigt")
    with pytest.raises(DataError, match="holds images of 'glioma', not one of"):
        ImageDataset("phantom", np.arange(20), classes=["notumor"])


def test_levelling_takes_out_background_and_grey_scale_and_clahe_spreads_faint_contrast(roots):
    dark, light = level(disc(0)), level(np.uint8(disc(0) * 0.5))
    assert np.abs(dark.astype(int) - light).mean() < 4, "half as bright, the same image afterwards"
    assert (level(disc(20))[:5] == 0).all() and dark[32, 32] > 0
    faint = np.random.default_rng(0).integers(100, 112, (64, 64)).astype(np.uint8)
    spread = clahe(faint)
    assert spread.std() > 2 * faint.std() and spread.shape == faint.shape and spread.dtype == np.uint8
    assert np.corrcoef(faint.ravel(), spread.ravel())[0, 1] > 0.9, "brighter stays brighter"
    for odd in (np.zeros((8, 8), np.uint8), np.full((8, 8), 90, np.uint8), np.array([[3]], np.uint8)):
        assert clahe(odd).shape == level(odd).shape == odd.shape
    stored, changed = (ImageDataset("phantom", [0], image_size=64, view=v)[0]["image"] for v in ("stored", "clahe"))
    assert np.array_equal(changed[0], clahe(stored[0].numpy())), "packed at 64 pixels, nothing is resized"
