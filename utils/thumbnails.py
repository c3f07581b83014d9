"""Pictures made small enough to compare all with all: thumbnails and hashes under the 8 flips and rotations.

`look` reads data sets on all cores; `curation.py` compares what it returns.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import h5py
import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from datasets import catalog, layouts
from datasets.preprocess import cores
from datasets.store import read_manifest, require

SIDE = 64  # of a thumbnail, pixels

# The 8 flips and rotations of the last two axes, by the name of what was done to the picture.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda x: x,
    "flipped-lr": lambda x: x[..., ::-1],
    "flipped-ud": lambda x: x[..., ::-1, :],
    "rotated-180": lambda x: x[..., ::-1, ::-1],
    "transposed": lambda x: x.swapaxes(-1, -2),
    "rotated-90": lambda x: x.swapaxes(-1, -2)[..., ::-1, :],
    "rotated-270": lambda x: x.swapaxes(-1, -2)[..., ::-1],
    "anti-transposed": lambda x: x.swapaxes(-1, -2)[..., ::-1, ::-1],
}


class Pictures:
    """What comparing needs of N pictures.

    Attributes:
        table: their manifest rows, with `dataset` and `pixels` (SHA-256 of the decoded picture).
        thumbnails: float32 N×64×64, mean-centred and of unit length, so that products are correlations; a picture
            of one grey value is all 0 and correlates with nothing.
        hashes: uint64 N×8, the 64-bit pHash under each of `TRANSFORMS`.
    """

    def __init__(self, table: pd.DataFrame, thumbnails: np.ndarray, hashes: np.ndarray):
        self.table, self.thumbnails, self.hashes = table.reset_index(drop=True), thumbnails, hashes

    def __len__(self) -> int:
        return len(self.table)

    def turned(self, transform: str) -> np.ndarray:
        """Thumbnails after a transform, N×4096."""
        return np.ascontiguousarray(TRANSFORMS[transform](self.thumbnails)).reshape(len(self), SIDE**2)


def traits(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Thumbnail, eight hashes and pixel digest of a grey picture, uint8 H×W of any size from 1×1."""
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    # pHash starts from 32×32: resized once here, the library's own resizing has nothing left to do.
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS))
    hashes = [_phash(np.ascontiguousarray(turn(tiny))) for turn in TRANSFORMS.values()]
    digest = hashlib.sha256(repr(grey.shape).encode() + grey.tobytes()).hexdigest()
    return small / length if length > 1e-3 else small * 0, np.array(hashes, np.uint64), digest


def _phash(tiny: np.ndarray) -> int:
    return int(str(imagehash.phash(Image.fromarray(tiny))), 16)


def _traits_of_file(name: str, path: str) -> tuple[np.ndarray, np.ndarray, str]:
    return traits(layouts.read(catalog.get(name), catalog.dataset_dir(name) / "raw", path).image)


def look(*names: str, progress: bool = False) -> Pictures:
    """Read all pictures of the data sets `names`, uncropped where the publisher's files are at hand, on all cores."""
    tables, found = [], []
    with ThreadPoolExecutor(cores()) as pool:  # decoding and resizing leave the interpreter's lock
        for name in names:
            manifest = read_manifest(name).assign(dataset=name)
            tables.append(manifest)
            if catalog.get(name).layout == "generated":
                with h5py.File(require(name) / "images.h5") as store:
                    work = map(traits, np.ascontiguousarray(store["image"][..., catalog.get(name).grey]))
            else:
                work = pool.map(partial(_traits_of_file, name), manifest.path)
            found += tqdm(work, total=len(manifest), desc=f"looking at {name}", disable=not progress)
    return collect(pd.concat(tables, ignore_index=True), found)


def collect(table: pd.DataFrame, found: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> Pictures:
    """`Pictures` of a table and the `traits` of each of its rows; an empty set is a set too."""
    if not found:
        return Pictures(table.assign(pixels=""), np.zeros((0, SIDE, SIDE), np.float32), np.zeros((0, 8), np.uint64))
    thumbnails, hashes, digests = zip(*found, strict=True)
    return Pictures(table.assign(pixels=digests), np.stack(thumbnails), np.stack(hashes))
