"""Reduces images to what comparing all with all needs: thumbnails and hashes under the 8 flips and rotations."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
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
from datasets.splitting import Split, drawn, make_split
from datasets.store.index import read_manifest, require
from datasets.store.packing import cores, in_order
from datasets.transforms import TRANSFORMS, undo

SIDE = 64  # of a thumbnail, pixels
PACKED_SIDE = 48  # of that of a packed image, and of a head
AIR = 10  # up to which grey value, after smoothing, a pixel is not of the head
BLOCK = 256  # images that are held at a time
FEW = 2000  # images that one process has looked at before others have started

Traits = tuple[np.ndarray, np.ndarray, str, np.ndarray, np.ndarray]  # see `traits`


@dataclass
class Thumbnails:
    """What comparing needs of N images.

    Thumbnails are mean-centred and of unit length, so that products are correlations; an image of one grey value is all
    0 and correlates with nothing. Those of packed images, cropped to the head, agree for two slices of one person also
    where one was framed wider. A head is what is brighter than `AIR` in the image as published: sharpened copies agree
    in it that do not when packed, since S2's crop takes more or less of each. `alike` is `Dataset.alike`, from which on
    images stay in one group.
    """

    table: pd.DataFrame  # manifest rows, with `dataset` and `pixels` (SHA-256 of the decoded image)
    thumbnails: np.ndarray  # float32 N×64×64
    hashes: np.ndarray  # uint64 N×8, the 64-bit pHash under each of `TRANSFORMS`
    packed: np.ndarray  # float32 N×48×48
    heads: np.ndarray  # float32 N×48×48
    alike: tuple[str, float] = ("packed", 0.93)  # at .91 groups begin to run together
    found: dict = field(default_factory=dict, repr=False)  # rule → pairs of `duplicates.alike_pairs`

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, rows: np.ndarray) -> "Thumbnails":
        """Those of some rows."""
        table = self.table.iloc[rows].reset_index(drop=True)
        arrays = (array[rows] for array in (self.thumbnails, self.hashes, self.packed, self.heads))
        return Thumbnails(table, *arrays, self.alike)

    def of(self, kind: str) -> np.ndarray:
        """Thumbnails of the images "packed" or "whole", as published: the first half of `Dataset.alike`."""
        return {"packed": self.packed, "whole": self.thumbnails}[kind]

    def undone(self, transforms: Sequence[str]) -> "Thumbnails":
        """The same with thumbnails turned back, each after its own of `TRANSFORMS` (hashes stay as they are)."""
        back = [undo(t[..., None], name)[..., 0] for t, name in zip(self.thumbnails, transforms, strict=True)]
        return replace(self, thumbnails=np.stack(back), found={})


def thumbnail(grey: np.ndarray, side: int) -> np.ndarray:
    """A grey image H×W as float32 side×side, mean-centred and of unit length; all 0 for an image of one grey value."""
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 1e-3 else small * 0


def phashes(grey: np.ndarray) -> np.ndarray:
    """64-bit pHash of a grey image under each of `TRANSFORMS`, uint64 8; bit for bit those of `imagehash.phash`, whose
    eight calls took four fifths of the time of `look`."""
    tiny = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    turned = np.stack([turn(tiny) for turn in TRANSFORMS.values()])
    low = dctn(turned, axes=(1, 2))[:, :8, :8].reshape(8, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def look(name: str) -> Thumbnails:
    """Read all images of data set `name`, uncropped where the publisher's files are at hand, on all cores."""
    return look_into(catalog.get(name), require(name))


def look_into(facts: Dataset, home: Path, raw: Path | None = None) -> Thumbnails:
    """The same of one set whose store and manifest are in `home`, in place yet or not; `raw`: the publisher's files."""
    manifest = read_manifest(facts.name, home).assign(dataset=facts.name)
    is_file = np.full(len(manifest), facts.layout != "generated" and facts.slices == 1)
    if "slice" in manifest:  # of a volume
        is_file &= manifest["slice"].eq("").to_numpy()
    paths = manifest.path.where(is_file, "").to_numpy()

    job = partial(_look_at, facts, home, raw or home / "raw", paths)
    rows = [slice(start, start + BLOCK) for start in range(0, len(paths), BLOCK)]
    found = chain.from_iterable(in_order(job, rows, cores() if len(paths) > FEW else 1))
    progress = tqdm(found, f"looking at {facts.name}", len(paths), disable=None)
    return replace(collect(manifest, progress), alike=facts.alike)


def _look_at(facts: Dataset, home: Path, raw: Path, paths: np.ndarray, rows: slice) -> list[Traits]:
    """The `traits` of some rows of a set; `paths`: of the publisher's file of each row, "" where there is none."""
    with hdf5.opened(home / "images.h5") as store:
        stored = store["image"][rows]
    found = []
    for path, packed in zip(paths[rows], stored if stored.ndim == 3 else stored[..., facts.grey], strict=True):
        published = packed = np.ascontiguousarray(packed)
        if path:
            (read,) = layouts.read(facts, raw, path)
            published = np.ascontiguousarray(read.image if read.image.ndim == 2 else read.image[..., facts.grey])
        found.append(traits(published, packed))
    return found


def head(grey: np.ndarray) -> np.ndarray:
    """The part of a grey image H×W that holds all of what is brighter than `AIR`; the whole where nothing is."""
    bright = cv2.GaussianBlur(grey, (3, 3), 0) > AIR
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else grey


def traits(grey: np.ndarray, packed: np.ndarray) -> Traits:
    """Thumbnail, eight hashes, pixel digest and head of a grey image, uint8 H×W of any size from 1×1, and the thumbnail
    of the same image as it is packed."""
    digest = hashlib.sha256(repr(grey.shape).encode() + grey.tobytes()).hexdigest()
    small = (thumbnail(one, PACKED_SIDE) for one in (head(grey), packed))
    return thumbnail(grey, SIDE), phashes(grey), digest, *small


def collect(table: pd.DataFrame, found: Iterable[Traits]) -> Thumbnails:
    """`Thumbnails` of a table and the `traits` of each of its rows."""
    thumbnails, heads, packed = (np.empty((len(table), s, s), np.float32) for s in (SIDE, PACKED_SIDE, PACKED_SIDE))
    hashes, digests = np.empty((len(table), len(TRANSFORMS)), np.uint64), []
    for row, of in enumerate(found):
        thumbnails[row], hashes[row], digest, heads[row], packed[row] = of
        digests.append(digest)
    return Thumbnails(table.assign(pixels=digests), thumbnails, hashes, packed, heads)


def nearest_labels(images: Thumbnails, protocol: str) -> Iterator[tuple[Split, np.ndarray]]:
    """The label of the most correlated training image, for each test image of a protocol.

    `images`: one whole data set, in manifest order, as the publisher framed them; `protocol`: "published", "random", or
    "patient" for the folds one after the other. Yields each split, and the labels in the order of its test rows.
    """
    name = images.table.dataset.iloc[0]
    for fold in range(catalog.get(name).folds) if protocol == "patient" else (0,):
        split = make_split(name, protocol, fold)
        yield split, _nearest(images, split.train_val, split.test)


def accuracy(images: Thumbnails, table: pd.DataFrame, protocol: str) -> float:
    """Share of the test images whose nearest training image has their label.

    `table`: the split table of these images, which need not be committed yet; `protocol`: as in `nearest_labels`.
    """
    if protocol == "patient":
        tests = [table.fold.eq(fold).to_numpy() for fold in sorted(table.fold.unique())]
    else:
        published = table.published_split.eq("test").to_numpy()
        tests = [published if protocol == "published" else drawn(len(table), protocol)]
    labels = table.label.to_numpy()
    right = [labels[t] == _nearest(images, np.flatnonzero(~t), np.flatnonzero(t)) for t in tests]
    return float(np.concatenate(right).mean())


def _nearest(images: Thumbnails, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The label of the training row that is most correlated, for each of the rows `test`."""
    pixels = images.thumbnails.reshape(len(images), -1)  # of unit length: the nearest is the most correlated
    known, nearest = pixels[train], []
    for start in range(0, len(test), BLOCK):  # bounds the memory: BLOCK × training images
        nearest.append((pixels[test[start : start + BLOCK]] @ known.T).argmax(1))
    return images.table.label.to_numpy()[train][np.concatenate(nearest)]
