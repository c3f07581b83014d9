"""Writes `images.h5`: all files of a set, prepared on all cores and stored in their order, one chunk an image."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.catalog import DataError
from datasets.store.parallel import cores, in_order
from datasets.store.preprocess import RawImage, prepare

VERSION = 2  # raised whenever the stored pixels change for the same raw files


# A cropped head hardly compresses: lzf saves 13 %, gzip-1 26 %, and an image takes 0.31 or 0.40 ms to read
# instead of 0.02 (7,023 images, 256×256).  Masks, nearly all zeros, shrink to 2 %.
COMPRESSION = {"image": {}, "mask": {"compression": "lzf"}}


# Slices of BraTS are mostly background: gzip-1 leaves 15 %, lzf 18 % and reads no faster (measured).
GZIP = {"compression": "gzip", "compression_opts": 1}


VOLUME_COMPRESSION = {"image": GZIP, "mask": GZIP}


# HDF5's checksum of each chunk: an image that changed on disk is not read.  An image of 256×256 takes about 0.02 ms
# more to write and to read (measured).
CHECKSUM = {"fletcher32": True}


BATCH = 16  # files a worker takes at a time


MARGIN = 2**22  # bytes: what HDF5 keeps in memory of two data sets before it writes it, and its own tables


VOLUME_WORKERS = 4  # each holds a patient's sequences in memory, about half a GiB


def pack(
    read: Callable[[str], list[RawImage]],
    paths: Sequence[str],
    destination: Path,
    *,
    size: int,
    crop: str = "margin",
    attrs: dict[str, Any] | None = None,
    needed: int = 0,
    slices: int = 1,
    workers: int | None = None,
    progress: Callable[[int], Any] = lambda n: None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Read, prepare and store `paths` in their order as the HDF5 file `destination`.

    Args:
        read: picklable; called in the workers with one of `paths`, returns the images that it holds and raises
            `DataError` for a broken file.
        needed: bytes of disk space to set aside for the store.
        slices: images in each of `paths`, on average and rounded up. More than one: volumes, which are compressed, and
            few held in memory.
        progress: called with the number of images just done.

    Returns the facts of each stored image, `path` and `remarks` included, in the order of storage, and of each broken
    one `path` and `reason`; broken images are not stored.  The same input gives the same bytes.
    """
    at_once, ahead, compression = (BATCH, 4, COMPRESSION) if slices == 1 else (1, 1, VOLUME_COMPRESSION)
    workers = workers or (cores() if slices == 1 else min(cores(), VOLUME_WORKERS))
    workers = min(workers, -(-len(paths) // at_once)) or 1
    batches = [paths[i : i + at_once] for i in range(0, len(paths), at_once)]
    job = partial(_prepare_batch, read, size, crop)
    stored: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    with _new_store(destination, needed) as file:
        file.attrs.update({"size": size, "crop": crop, "version": VERSION, **(attrs or {})})
        for facts, bad, arrays in in_order(job, batches, workers, ahead):
            for name, batch in arrays.items():
                _append(file, name, len(stored), len(paths) * slices, batch, compression[name])
            stored += facts
            broken += bad
            progress(len(facts) + len(bad))
        for dataset in file.values():
            dataset.resize(len(stored), axis=0)
    return stored, broken


def _prepare_batch(read: Callable[[str], list[RawImage]], size: int, crop: str, paths: Sequence[str]):
    """Facts of the good images, path and reason of the broken ones, the good ones' pixels by HDF5 name."""
    images, facts, broken = [], [], []
    for path in paths:
        try:
            found = [prepare(raw, size, crop) for raw in read(path)]
            images += found
            facts += [{"path": path, **image.facts, "remarks": image.remarks} for image in found]
        except DataError as error:
            broken.append({"path": path, "reason": str(error)})
    arrays = {"image": np.stack([image.image for image in images])} if images else {}
    if images and images[0].mask is not None:
        arrays["mask"] = np.stack([image.mask for image in images])
    return facts, broken, arrays


@contextmanager
def _new_store(path: Path, needed: int) -> Iterator[h5py.File]:
    """A new HDF5 file, `needed` bytes set aside for it: where the disk is full, HDF5 crashes instead of closing it."""
    with path.open("wb") as file:
        _set_aside(file.fileno(), needed)
    with h5py.File(path, "w") as file:
        _set_aside(file.id.get_vfd_handle(), needed)  # HDF5 has just emptied the file
        yield file
        file.flush()
        length = file.id.get_filesize()
    os.truncate(path, length)


def _set_aside(descriptor: int, needed: int) -> None:
    if hasattr(os, "posix_fallocate"):  # macOS has it not
        os.posix_fallocate(descriptor, 0, needed + MARGIN)


def _append(file: h5py.File, name: str, start: int, most: int, batch: np.ndarray, compression: dict[str, Any]) -> None:
    if name not in file:
        shape = (most, *batch.shape[1:])
        file.create_dataset(name, shape, batch.dtype, maxshape=shape, chunks=(1, *shape[1:]), **compression, **CHECKSUM)
    _set_aside(file.id.get_vfd_handle(), file.id.get_filesize() + batch.nbytes)  # where more is needed than expected
    file[name][start : start + len(batch)] = batch
