"""From a publisher's file to a row of `images.h5`: decode, crop to the head, resize, pack on all cores.

The image functions come first and take arrays; `pack` at the end runs them in parallel.
`layouts.py` knows which files a data set has and reads them; `download.py` calls `pack`.
"""

import io
import multiprocessing
import os
import signal
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.catalog import DataError

VERSION = 1  # raised whenever the stored pixels change for the same raw files
# Rule → share of the largest contour's area from which on another contour widens the box, see `margin_box`.
CROPS = {"margin": 0.01, "s2": 1.0, "none": None}
MAX_PIXELS = 100_000_000  # a slice has well under a million; more is a decompression bomb
# A cropped head hardly compresses: lzf saves 13 %, gzip-1 26 %, and an image takes 0.31 or 0.40 ms to read
# instead of 0.02 (7,023 images, 256×256).  Masks, nearly all zeros, shrink to 2 %.
COMPRESSION = {"image": {}, "mask": {"compression": "lzf"}}
# Slices of BraTS are mostly background: gzip-1 leaves 15 %, lzf 18 % and reads no faster (benchmarks/volumes.py).
GZIP = {"compression": "gzip", "compression_opts": 1}
VOLUME_COMPRESSION = {"image": GZIP, "mask": GZIP}
BATCH = 16  # files a worker takes at a time
VOLUME_WORKERS = 4  # each holds a patient's sequences in memory, about half a GiB

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One image as read: `image` H×W uint8, or H×W×C for several sequences; `mask` uint8 0/1 H×W×M; `facts` for its
    manifest row.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def decode(source: str | Path | bytes) -> np.ndarray:
    """Decode a JPEG or PNG file, or its bytes, wholly to a grey picture, uint8 H×W.

    The EXIF orientation is applied.  Colour becomes BT.601 luminance, as by S2's `cvtColor`; pictures of more
    than 8 bits are scaled by `to_uint8`.  Raises `DataError`, which names the file where one was given, for
    anything but one whole picture: text under an image's name, a truncated file, a decompression bomb.
    """
    if not isinstance(source, bytes):
        try:
            return decode(Path(source).read_bytes())
        except (DataError, OSError) as error:
            raise DataError(f"{source}: {error}; take the file from its publisher again") from error
    try:
        with Image.open(io.BytesIO(source)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{picture.width}×{picture.height} pixels are too many for a slice")
            return _grey(picture)
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"not a whole image ({error})") from error


def _grey(picture: Image.Image) -> np.ndarray:
    picture.draft("L", picture.size)  # a JPEG's luminance plane as stored: half the time of RGB and back
    picture.load()  # Pillow's loader refuses a truncated JPEG; OpenCV's fills the rest with grey
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return to_uint8(np.asarray(picture))
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Scale an image of any numeric type to uint8 by its own minimum and maximum; a constant image becomes 0.

    MR intensities have no unit and each slice was exported with its own window: no common range to keep.
    """
    if not np.isfinite(image).all():
        raise DataError("image holds NaN or infinite values")
    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled).astype(np.uint8)


def margin_box(image: np.ndarray, share: float = CROPS["margin"]) -> Box:
    """Find the head in a grey uint8 image; return `(top, bottom, left, right)`, ends exclusive.

    S2's steps: Gaussian 3×3, threshold 45, erode twice, dilate twice, outer contours, extremes.  S2 kept the
    largest contour alone (`share=1`).  In a dim slice the head falls apart at that threshold and the largest
    piece is a scrap of it: on Cheng's 3,064 slices S2's box cuts into the tumour in 58, misses it wholly in
    14.  Here every contour of at least `share` of the largest one's area counts: 1 and 0, while the box stays
    nearly as tight (median 64 % of the picture against 61 %) and still leaves out the letters on some scans.
    Also, S2 sliced with the last row and column as ends and so lost them, and stopped with an error where it
    found no contour; here that, as in a black slice, gives the whole picture.
    """
    height, width = image.shape
    bright = cv2.threshold(cv2.GaussianBlur(image, (3, 3), 0), 45, 255, cv2.THRESH_BINARY)[1]
    opened = cv2.dilate(cv2.erode(bright, None, iterations=2), None, iterations=2)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0, height, 0, width
    areas = [cv2.contourArea(contour) for contour in contours]
    large = [c for c, area in zip(contours, areas, strict=True) if area >= share * max(areas)]
    left, top, w, h = cv2.boundingRect(np.concatenate(large))
    return top, top + h, left, left + w


def crop_and_resize(image: np.ndarray, box: Box, size: int, nearest: bool = False) -> np.ndarray:
    """Cut `box` out of an H×W or H×W×C array of any type and resize it to `size`×`size`; `nearest` for masks.

    As in S2 both sides are stretched to `size`, so the aspect ratio is not kept.  Shrinking averages over
    areas, since bilinear interpolation would skip pixels.
    """
    top, bottom, left, right = box
    part = image[top:bottom, left:right]
    shrinks = min(part.shape[:2]) >= size
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(part, (size, size), interpolation=how)
    return resized.reshape(size, size, *image.shape[2:])  # OpenCV drops a channel axis of length one


def prepare(picture: Picture, size: int, crop: str = "margin") -> Picture:
    """Crop by a rule of `CROPS` and resize, a picture and its mask alike; facts are passed on."""
    height, width = picture.image.shape[:2]
    share = CROPS[crop]
    box = (0, height, 0, width) if share is None else margin_box(picture.image, share)
    mask = None if picture.mask is None else crop_and_resize(picture.mask, box, size, nearest=True)
    return Picture(crop_and_resize(picture.image, box, size), mask, picture.facts)


def cores() -> int:
    """Number of cores that this process may use (a cluster job may use fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pack(
    read: Callable[[str], list[Picture]],
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
        read: picklable; called in the workers with one of `paths`, returns the pictures that it holds and raises
            `DataError` for a broken file.
        needed: bytes of disk space to set aside for the store.
        slices: pictures in each of `paths`. More than one: volumes, which are compressed, and few held in memory.
        progress: called with the number of images just done.

    Returns the facts of each stored image, `path` included, in the order of storage, and of each broken one
    `path` and `reason`; broken images are not stored.  The same input gives the same bytes.
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


def _prepare_batch(read: Callable[[str], list[Picture]], size: int, crop: str, paths: Sequence[str]):
    """Facts of the good images, path and reason of the broken ones, the good ones' pixels by HDF5 name."""
    pictures, facts, broken = [], [], []
    for path in paths:
        try:
            found = [prepare(picture, size, crop) for picture in read(path)]
            pictures += found
            facts += [{"path": path, **picture.facts} for picture in found]
        except DataError as error:
            broken.append({"path": path, "reason": str(error)})
    arrays = {"image": np.stack([p.image for p in pictures])} if pictures else {}
    if pictures and pictures[0].mask is not None:
        arrays["mask"] = np.stack([p.mask for p in pictures])
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
        os.posix_fallocate(descriptor, 0, needed + 2**20)


def _append(file: h5py.File, name: str, start: int, most: int, batch: np.ndarray, compression: dict[str, Any]) -> None:
    if name not in file:
        shape = (most, *batch.shape[1:])
        file.create_dataset(name, shape, batch.dtype, maxshape=shape, chunks=(1, *shape[1:]), **compression)
    file[name][start : start + len(batch)] = batch


def in_order(job: Callable, batches: Sequence, workers: int, ahead: int = 4) -> Iterator:
    """Yield `job(batch)` for each of `batches` in order, from `workers` processes, `ahead` results waiting for each."""
    if workers == 1:
        yield from map(job, batches)
        return
    waiting: deque = deque()
    with _interrupt_later() as next_result:
        pool = _pool(workers)
        try:
            for batch in batches:
                waiting.append(pool.submit(job, batch))
                if len(waiting) > ahead * workers:
                    yield next_result(waiting)
            while waiting:
                yield next_result(waiting)
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed (out of memory?); run again with --workers 1") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the workers inherit it: Ctrl-C is the parent's
    try:
        for _ in range(workers):  # each task starts one worker while none is idle
            pool.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pool


@contextmanager
def _interrupt_later() -> Iterator[Callable[[deque], Any]]:
    """Ctrl-C ends the work between two results: elsewhere a library may swallow it, or die half-started of it."""
    pressed: list[int] = []

    def next_result(waiting: deque) -> Any:
        result = waiting.popleft().result()
        if pressed:
            raise KeyboardInterrupt
        return result

    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield next_result
    finally:
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
