"""Packing: images in their order, broken ones left out, the same bytes on any number of cores, changes detected."""

import hashlib
import os
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from png_folder import read
from scenes import encoded, scene

from datasets.catalog import DataError
from datasets.store import packing, preprocess
from datasets.store.preprocess import RawImage


def test_a_stored_image_or_mask_that_changed_on_disk_is_not_read(files):
    _, _, target = packed(files, workers=1)
    for name, row in (("image", 3), ("mask", 7)):
        spoil_chunk(target, name, row)
        with h5py.File(target) as store, pytest.raises(OSError):
            store[name][row]


def spoil_chunk(path: Path, name: str, row: int) -> None:
    """Change one byte of the chunk of an image or mask."""
    with h5py.File(path) as store:
        data = store[name]
        chunk = data.id.get_chunk_info_by_coord((row, *[0] * (data.ndim - 1)))
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(40):
        image = scene((20 + i, 150, 30, 180 - i, 160))[: 120 + i] + rng.integers(0, 20, dtype=np.uint8)
        (folder / f"{i:02}.png").write_bytes(encoded(Image.fromarray(image)))
    (folder / "17.png").write_text("not an image")
    return folder


def packed(files: Path, workers: int):
    paths = sorted(p.name for p in files.iterdir())
    target = files.parent / f"{workers}.h5"
    stored, broken = packing.pack(partial(read, files), paths, target, size=64, workers=workers)
    return stored, broken, target


def test_packing_keeps_the_order_and_leaves_broken_images_out(files):
    stored, broken, target = packed(files, workers=1)
    assert [row["path"] for row in stored] == [f"{i:02}.png" for i in range(40) if i != 17]
    assert broken == [{"path": "17.png", "reason": "not an image"}]
    with h5py.File(target) as store:
        assert store["image"].shape == (39, 64, 64)
        assert store["image"].chunks == (1, 64, 64)
        assert store["mask"].shape == (39, 64, 64, 1)
        assert dict(store.attrs) == {"size": 64, "crop": "margin", "version": packing.VERSION}
        for row in (0, 16, 17, 38):
            alone = preprocess.prepare(read(files, stored[row]["path"])[0], 64)
            assert np.array_equal(store["image"][row], alone.image)
            assert np.array_equal(store["mask"][row], alone.mask)


def test_packing_gives_the_same_bytes_on_one_core_and_on_two(files):
    digests = [hashlib.sha256(packed(files, n)[2].read_bytes()).digest() for n in (1, 2)]
    assert digests[0] == digests[1]


def die(path: str) -> list[RawImage]:
    os._exit(9)


def test_a_killed_worker_is_an_error_with_a_remedy(tmp_path):
    paths = [str(i) for i in range(2 * packing.BATCH)]
    with pytest.raises(DataError, match="--workers 1"):
        packing.pack(die, paths, tmp_path / "images.h5", size=64, workers=2)
