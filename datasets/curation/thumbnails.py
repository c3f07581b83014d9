"""Reduces images to what comparing all with all needs: thumbnails and hashes under the 8 flips and rotations.

`look` reads data sets on all cores; `duplicates.py` compares what it returns.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn
from tqdm import tqdm

from datasets import catalog, hdf5
from datasets.catalog import Dataset
from datasets.sources import layouts
from datasets.store.index import read_manifest, require
from datasets.store.parallel import cores
from datasets.transforms import TRANSFORMS, undo

SIDE = 64  # of a thumbnail, pixels
PACKED_SIDE = 48  # of that of a packed image
BLOCK = 512  # images that are held at a time, at their full size


class Thumbnails:
    """What comparing needs of N images.

    Attributes:
        table: their manifest rows, with `dataset` and `pixels` (SHA-256 of the decoded image).
        thumbnails: float32 N×64×64, mean-centred and of unit length, so that products are correlations; an image
            of one grey value is all 0 and correlates with nothing.
        hashes: uint64 N×8, the 64-bit pHash under each of `TRANSFORMS`.
        packed: float32 N×48×48, like `thumbnails`, of the packed images: cropped to the head, so that two slices of one
            person agree although one was framed wider.
    """

    def __init__(self, table: pd.DataFrame, thumbnails: np.ndarray, hashes: np.ndarray, packed: np.ndarray):
        self.table, self.thumbnails, self.hashes = table.reset_index(drop=True), thumbnails, hashes
        self.packed = packed

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, rows: np.ndarray) -> "Thumbnails":
        """Those of some rows."""
        return Thumbnails(self.table.iloc[rows], self.thumbnails[rows], self.hashes[rows], self.packed[rows])

    def of(self, kind: str) -> np.ndarray:
        """Thumbnails of the images "packed" or "whole", as published: the first half of `Dataset.alike`."""
        return {"packed": self.packed, "whole": self.thumbnails}[kind]

    def turned(self, transform: str) -> np.ndarray:
        """Thumbnails after a transform, N×4096."""
        return np.ascontiguousarray(TRANSFORMS[transform](self.thumbnails)).reshape(len(self), SIDE**2)

    def undone(self, transforms: Sequence[str]) -> "Thumbnails":
        """The same with thumbnails turned back, each after its own of `TRANSFORMS` (hashes stay as they are)."""
        back = [undo(t[..., None], name)[..., 0] for t, name in zip(self.thumbnails, transforms, strict=True)]
        return Thumbnails(self.table, np.stack(back), self.hashes, self.packed)


def traits(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Thumbnail, eight hashes and pixel digest of a grey image, uint8 H×W of any size from 1×1."""
    digest = hashlib.sha256(repr(grey.shape).encode() + grey.tobytes()).hexdigest()
    return thumbnail(grey, SIDE), phashes(grey), digest


def thumbnail(grey: np.ndarray, side: int) -> np.ndarray:
    """A grey image H×W as float32 side×side, mean-centred and of unit length; all 0 for an image of one grey value."""
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 1e-3 else small * 0


def phashes(grey: np.ndarray) -> np.ndarray:
    """64-bit pHash of a grey image under each of `TRANSFORMS`, uint64 8; bit for bit those of `imagehash.phash`.

    One cosine transform for all eight: eight calls of the library took four fifths of the time of `look`.
    """
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    turned = np.stack([turn(tiny) for turn in TRANSFORMS.values()])
    low = dctn(turned, axes=(1, 2))[:, :8, :8].reshape(8, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def look(*names: str, progress: bool = False) -> Thumbnails:
    """Read all images of the data sets `names`, uncropped where the publisher's files are at hand, on all cores."""
    return reduce(join, (look_into(catalog.get(name), require(name), progress=progress) for name in names))


def look_into(facts: Dataset, home: Path, raw: Path | None = None, progress: bool = False) -> Thumbnails:
    """The same of one set whose store and manifest are in `home`, in place yet or not; `raw`: the publisher's files."""
    manifest = read_manifest(facts.name, home).assign(dataset=facts.name)
    files = facts.layout != "generated" and facts.slices == 1
    is_file = manifest["slice"].eq("") & files if "slice" in manifest else pd.Series(files, manifest.index)
    read = partial(_traits, facts, raw or home / "raw")
    paths, packed, found = manifest.path.where(is_file, "").to_numpy(), [], []
    with hdf5.opened(home / "images.h5") as store, ThreadPoolExecutor(cores()) as pool:
        images = store["image"]
        shown = tqdm(total=len(paths), desc=f"looking at {facts.name}", disable=not progress)
        for start in range(0, len(paths), BLOCK):  # a whole set may not fit into memory
            part = slice(start, start + BLOCK)
            stored = images[part] if images.ndim == 3 else images[part][..., facts.grey]
            # decoding and resizing leave the interpreter's lock
            packed += pool.map(partial(thumbnail, side=PACKED_SIDE), stored)
            found += pool.map(read, paths[part], stored)
            shown.update(len(stored))
        shown.close()
    return collect(manifest, found, packed)


def _traits(facts: Dataset, raw: Path, path: str, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Traits of a file of one image, or of the image as it is stored where there is none."""
    if not path:
        return traits(np.ascontiguousarray(stored))
    (read,) = layouts.read(facts, raw, path)
    return traits(read.image if read.image.ndim == 2 else np.ascontiguousarray(read.image[..., facts.grey]))


def collect(
    table: pd.DataFrame, found: Sequence[tuple[np.ndarray, np.ndarray, str]], packed: Sequence[np.ndarray]
) -> Thumbnails:
    """`Thumbnails` of a table, the `traits` of each of its rows, and the small packed images; an empty set is a set."""
    if not found:
        none = (np.zeros((0, SIDE, SIDE), np.float32), np.zeros((0, 8), np.uint64))
        return Thumbnails(table.assign(pixels=""), *none, np.zeros((0, PACKED_SIDE, PACKED_SIDE), np.float32))
    thumbnails, hashes, digests = zip(*found, strict=True)
    return Thumbnails(table.assign(pixels=digests), np.stack(thumbnails), np.stack(hashes), np.stack(packed))


def join(a: Thumbnails, b: Thumbnails) -> Thumbnails:
    """The images of two sets as one."""
    table = pd.concat([a.table, b.table], ignore_index=True)
    return Thumbnails(
        table,
        np.concatenate([a.thumbnails, b.thumbnails]),
        np.concatenate([a.hashes, b.hashes]),
        np.concatenate([a.packed, b.packed]),
    )
