"""Writes `images.h5`: all files of a set, prepared on all cores and stored in their order, one chunk an image."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from datasets import hdf5
from datasets.catalog import DataError
from datasets.commands import silence_libraries
from datasets.store.preprocess import RawImage, prepare

VERSION = 2  # raised whenever the stored pixels change for the same raw files
# A cropped head hardly compresses: lzf saves 13 %, and an image takes 0.31 ms to read instead of 0.02.
COMPRESSION = {"image": {}, "mask": {"compression": "lzf"}}
# Slices of BraTS are mostly background: gzip-1 leaves 15 %.
GZIP = {"compression": "gzip", "compression_opts": 1}
CHECKSUM = {"fletcher32": True}  # of each chunk: an image that changed on disk is not read
BATCH = 16  # files a worker takes at a time
MARGIN = 2**22  # bytes beyond the images: what HDF5 still keeps in memory, and its own tables
VOLUME_WORKERS = 4  # each holds a patient's sequences in memory, about half a GiB


def pack(
    read: Callable[[str], list[RawImage]],
    paths: Sequence[str],
    destination: Path,
    *,
    size: int,
    crop: str = "margin",
    attrs: dict[str, Any] | None = None,
    slices: int | None = 1,
    workers: int | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Read, prepare and store `paths` in their order as the HDF5 file `destination`.

    Args:
        read: picklable; returns the images that one of `paths` holds, and raises `DataError` for a broken file.
        slices: images in each of `paths`, None where that differs. Unless one: volumes, compressed, few in memory.

    Returns the facts of each stored image, `path` and `remarks` included, in the order of storage, and of each broken
    one `path` and `reason`; broken images are not stored.  The same input gives the same bytes.
    """
    at_once, ahead, compression, at_most = BATCH, 4, COMPRESSION, cores()
    if slices != 1:
        at_once, ahead, compression, at_most = 1, 1, {"image": GZIP, "mask": GZIP}, min(cores(), VOLUME_WORKERS)
    batches = [paths[i : i + at_once] for i in range(0, len(paths), at_once)]
    workers = max(1, min(workers or at_most, len(batches)))
    stored: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    shown = tqdm(total=len(paths) * (slices or 1), desc="preprocessing", unit=" images", disable=None)
    with shown, hdf5.unlocked(destination, "w") as file:
        file.attrs.update({"size": size, "crop": crop, "version": VERSION, **(attrs or {})})
        for images, bad in in_order(partial(_prepare_batch, read, size, crop), batches, workers, ahead):
            for name in ("image", "mask"):
                arrays = [getattr(image, name) for image in images]
                if not images or arrays[0] is None:
                    continue
                if name not in file:
                    shape = (len(paths) * (slices or 0), *arrays[0].shape)
                    most = (None if slices is None else shape[0], *shape[1:])
                    how = {"maxshape": most, "chunks": (1, *shape[1:])} | compression[name] | CHECKSUM
                    file.create_dataset(name, shape, arrays[0].dtype, **how)
                _set_aside(file, sum(array.nbytes for array in arrays))
                end = len(stored) + len(images)
                file[name].resize(max(end, len(file[name])), axis=0)
                file[name][len(stored) : end] = np.stack(arrays)
            stored += [image.facts | {"remarks": image.remarks} for image in images]
            broken += bad
            shown.update(len(images) + len(bad))
        for dataset in file.values():
            dataset.resize(len(stored), axis=0)
        file.flush()
        length = file.id.get_filesize()
    os.truncate(destination, length)
    return stored, broken


def _set_aside(file: h5py.File, needed: int) -> None:
    """Take `needed` bytes of the disk before they are written: where it is full, HDF5 crashes as it closes the file."""
    if hasattr(os, "posix_fallocate"):  # macOS has it not
        os.posix_fallocate(file.id.get_vfd_handle(), 0, file.id.get_filesize() + needed + MARGIN)


def _prepare_batch(read: Callable, size: int, crop: str, paths: Sequence[str]):
    """The good images, and path and reason of the broken ones."""
    images, broken = [], []
    for path in paths:
        try:
            found = [prepare(raw, size, crop) for raw in read(path)]
            images += [replace(image, facts={"path": path} | image.facts) for image in found]
        except DataError as error:
            broken.append({"path": path, "reason": str(error)})
    return images, broken


def in_memory(arrays: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> bytes:
    """The bytes of an HDF5 file of these arrays, one chunk a row, or in `image` one a sequence, since classifiers see
    one alone. Made in memory: HDF5 crashes where the disk is full.

    The same arrays give the same bytes: no timestamps, and gzip, because lzf (as HDF5 ships it) starts from an
    uninitialised table and so may pack the same pixels differently.
    """
    with h5py.File("new", "w", libver="earliest", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            chunk = (1, *array.shape[1:-1], 1) if name == "image" else (1, *array.shape[1:])
            how = GZIP | CHECKSUM | {"chunks": chunk, "track_times": False}
            file.create_dataset(name, data=array, **how)
        for key, value in attrs.items():
            file.attrs[key] = value
        file.flush()
        return file.id.get_file_image()


def cores() -> int:
    """Number of cores that this process may use (a cluster job may use fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_here() -> int:
    """Number of processes of this training on this node, as torchrun says; they share its cores and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def in_order(job: Callable, batches: Sequence, workers: int, ahead: int = 4) -> Iterator:
    """Yield `job(batch)` for each of `batches` in order, from `workers` processes, `ahead` results waiting for each.

    Ctrl-C ends the work between two results: elsewhere a library may swallow it, or die half-started of it. Written by
    hand: joblib's workers outlive a parent that is killed while they start, and it does not bound what waits.
    """
    if workers == 1:
        yield from map(job, batches)
        return
    pressed: list[int] = []
    waiting: deque = deque()

    def next_result() -> Any:
        result = waiting.popleft().result()
        if pressed:
            raise KeyboardInterrupt
        return result

    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the workers inherit it: Ctrl-C is the parent's
    for _ in range(workers):  # each task starts one worker while none is idle
        pool.submit(int)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        for batch in batches:
            waiting.append(pool.submit(job, batch))
            if len(waiting) > ahead * workers:
                yield next_result()
        while waiting:
            yield next_result()
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed (out of memory?); run again with --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes already fill the cores
    silence_libraries()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
