"""Images are read alike from memory and disk, by several workers, at any size."""

import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from store_copies import copied
from torch.utils.data import DataLoader

from datasets.catalog import DataError
from datasets.store.images import ImageDataset, read_masks, scaled
from datasets.store.index import read_manifest, require


def test_memory_and_disk_and_workers_give_the_same_batches(roots):
    rows = np.array([5, 0, 17, 3, 8])
    memory, disk = (ImageDataset("phantom", rows, image_size=64, in_memory=m) for m in (True, False))
    wanted = memory.batch(range(5))
    loader = DataLoader(disk, 2, collate_fn=disk.collate, num_workers=2)
    batches = list(loader)
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


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_mask_s_pixel_belongs_to_what_covers_half_of_it(roots, in_memory):
    stored = read_masks("phantom", np.arange(84))
    row = int(stored.sum(axis=(1, 2, 3)).argmax())
    wanted = stored[row].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)) >= 0.5
    small = ImageDataset("phantom", [row], image_size=32, masks=True, in_memory=in_memory)[0]["mask"]
    assert np.array_equal(small.numpy().astype(bool), wanted) and wanted.any()


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_grey_values_of_8_and_16_bits_lie_between_0_and_1(kind):
    assert scaled(torch.tensor([0, torch.iinfo(kind).max], dtype=kind)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("size", [32, 64, 100])
def test_any_size_keeps_the_brightness(roots, size):
    image = ImageDataset("phantom", [0], image_size=size)[0]["image"]
    full = ImageDataset("phantom", [0], image_size=64)[0]["image"]
    assert image.shape == (1, size, size)
    assert abs(image.float().mean() - full.float().mean()) < 2


def test_a_manifest_of_another_length_is_refused(small_phantom, tmp_path, monkeypatch):
    (tmp_path / "phantom").mkdir()
    for file in ("images.h5", "manifest.csv"):
        (tmp_path / "phantom" / file).write_bytes((small_phantom / "phantom" / file).read_bytes())
    with (tmp_path / "phantom/manifest.csv").open("a") as file:
        file.write((tmp_path / "phantom/manifest.csv").read_text().splitlines()[-1] + "\n")
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path))
    with pytest.raises(DataError, match="manifest rows"):
        ImageDataset("phantom", [0])


ORDER = """
import sys
from pathlib import Path
print(*{Path(name) for name in sys.argv[1:]})
"""
READ = """
import pickle, sys
print(pickle.load(open(sys.argv[1], "rb")).batch([0])["row"].tolist())
"""


def test_a_worker_that_is_started_anew_knows_the_files_again(small_phantom, tmp_path, monkeypatch):
    """Also where its hash seed, on which the order of a set of paths depends, is another one."""
    home = copied(small_phantom, tmp_path, monkeypatch)
    data = ImageDataset("phantom", [4, 7], image_size=64, in_memory=False)
    files = [home / name for name in ("manifest.csv", "images.h5")]
    (tmp_path / "data.pickle").write_bytes(pickle.dumps(data))

    def told(code: str, seed: int, *words: object) -> subprocess.CompletedProcess:
        command, env = [sys.executable, "-c", code, *map(str, words)], {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    here = " ".join(map(str, {*files}))
    seed = next(seed for seed in range(100) if told(ORDER, seed, *files).stdout.strip() != here)
    done = told(READ, seed, tmp_path / "data.pickle")
    assert done.stdout == "[4]\n", done.stderr
    os.utime(files[0], (0, 0))
    assert "replaced since it was opened" in told(READ, seed, tmp_path / "data.pickle").stderr
