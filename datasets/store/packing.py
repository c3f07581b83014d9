"""Writes `images.h5`: all files of a set, prepared on all cores and stored in their order, one chunk an image.

The process pool is written by hand: joblib's workers stay behind when their parent is killed while they start, and it
does not bound the results that wait.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from datasets.catalog import DataError
from datasets.store.preprocess import RawImage, prepare

VERSION = 2  # raised whenever the stored pixels change for the same raw files
# A cropped head hardly compresses: lzf saves 13 %, and an image takes 0.31 ms to read instead of 0.02.
COMPRESSION = {"image": {}, "mask": {"compression": "lzf"}}
# Slices of BraTS are mostly background: gzip-1 leaves 15 %.
GZIP = {"compression": "gzip", "compression_opts": 1}
CHECKSUM = {"fletcher32": True}  # of each chunk: an image that changed on disk is not read
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
        read: picklable; returns the images that one of `paths` holds, and raises `DataError` for a broken file.
        needed: bytes of disk space to set aside for the store.
        slices: images in each of `paths`, rounded up. More than one: volumes, compressed, and few held in memory.
        progress: called with the number of images just done.

    Returns the facts of each stored image, `path` and `remarks` included, in the order of storage, and of each broken
    one `path` and `reason`; broken images are not stored.  The same input gives the same bytes.
    """
    at_once, ahead, compression, most = BATCH, 4, COMPRESSION, cores()
    if slices > 1:
        at_once, ahead, compression, most = 1, 1, {"image": GZIP, "mask": GZIP}, min(cores(), VOLUME_WORKERS)
    batches = [paths[i : i + at_once] for i in range(0, len(paths), at_once)]
    workers = max(1, min(workers or most, len(batches)))
    stored: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    with _new_store(destination, needed) as file:
        file.attrs.update({"size": size, "crop": crop, "version": VERSION, **(attrs or {})})
        for images, bad in in_order(partial(_prepare_batch, read, size, crop), batches, workers, ahead):
            for name in ("image", "mask"):
                arrays = [getattr(image, name) for image in images]
                if not images or arrays[0] is None:
                    continue
                if name not in file:
                    shape = (len(paths) * slices, *arrays[0].shape)
                    how = {"maxshape": shape, "chunks": (1, *shape[1:])} | compression[name] | CHECKSUM
                    file.create_dataset(name, shape, arrays[0].dtype, **how)
                end, nbytes = len(stored) + len(images), sum(array.nbytes for array in arrays)
                _set_aside(file.id.get_vfd_handle(), file.id.get_filesize() + nbytes)  # more than expected
                file[name][len(stored) : end] = np.stack(arrays)
            stored += [image.facts | {"remarks": image.remarks} for image in images]
            broken += bad
            progress(len(images) + len(bad))
        for dataset in file.values():
            dataset.resize(len(stored), axis=0)
    return stored, broken


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


def cores() -> int:
    """Number of cores that this process may use (a cluster job may use fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_here() -> int:
    """Number of processes of this training on this node, as torchrun says; they share its cores and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def in_order(job: Callable, batches: Sequence, workers: int, ahead: int = 4) -> Iterator:
    """Yield `job(batch)` for each of `batches` in order, from `workers` processes, `ahead` results waiting for each.

    Ctrl-C ends the work between two results: elsewhere a library may swallow it, or die half-started of it.
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
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
