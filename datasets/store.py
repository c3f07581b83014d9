"""Reading what `download.py` wrote: the manifest as a table, the packed images as a torch data set.

Which rows are trained on and which are tested is decided in `protocols.py`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset as TorchDataset

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.views import VIEWS, level, undo

IN_MEMORY_BYTES = 2 * 2**30  # larger selections are read from disk image by image
NUMBERS = ("bytes", "width", "height")
SPLITS = Path(__file__).parent / "splits"


def require(name: str) -> Path:
    """Folder of data set `name`; raises `DataError` with the command that brings it when it is not there."""
    folder = catalog.dataset_dir(name)
    if not (folder / "manifest.csv").is_file() or not (folder / "images.h5").is_file():
        raise DataError(f"{folder}: the data set '{name}' is not here yet. Run: python datasets/download.py {name}")
    return folder


def read_manifest(name: str) -> pd.DataFrame:
    """Manifest of data set `name`: a row an image, in the order of the store; unknown values are ""."""
    table = pd.read_csv(require(name) / "manifest.csv", dtype=str, keep_default_na=False)
    return table.astype({column: int for column in NUMBERS if column in table})


def turns(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """How the publisher turned each image, as far as known: a key of `views.TRANSFORMS`, "upright" where unknown.

    Known from the committed split table (images linked to Cheng's slices), or planted in the phantom.

    Raises:
        DataError: nothing is known of this set.
    """
    if "transposed" in manifest:
        return np.where(manifest.transposed.eq("1"), "transposed", "upright")
    table = read_splits(name, manifest)
    if table is None:
        raise DataError(f"{SPLITS / (name + '.csv')}: no split table says how the images of '{name}' were turned")
    return table["transform"].replace("", "upright").to_numpy()


def read_splits(name: str, manifest: pd.DataFrame) -> pd.DataFrame | None:
    """The committed split table in the manifest's order, or None where none is committed.

    Raises:
        DataError: when an image of the manifest is missing from the table.
    """
    path = SPLITS / f"{name}.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("path")
    missing = manifest.path[~manifest.path.isin(table.index)]
    if len(missing):
        raise DataError(f"{path}: {len(missing)} images of '{name}' are not in it, first {missing.iloc[0]}.")
    return table.loc[manifest.path].reset_index()


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """H×W×C uint8 → side×side×C; area averaging when shrinking, so that no fine line is skipped."""
    if image.shape[:2] == (side, side):
        return image
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method).reshape(side, side, image.shape[2])


class PackedImages(TorchDataset):
    """Images and labels of some rows of one data set.

    Whole batches are fetched at once (`__getitems__`), so give the DataLoader `collate_fn=PackedImages.collate`.

    Args:
        name: data set, see `catalog.CATALOG`.
        rows: indices into the manifest, in the order wanted.
        image_size: side in pixels that images are resized to.
        channels: "grey" for the one grey channel, "all" for every stored channel.
        in_memory: keep the resized images in memory; by default when they fit `IN_MEMORY_BYTES`. Otherwise each
            worker opens the file for itself and reads single images.
        classes: labels in the order of their numbers; the set's own by default, another's in an external test.
        view: key of `VIEWS`, what is done to every image before it is resized.

    Raises:
        DataError: store and manifest disagree, a label is not among `classes`, or a view lacks its split table.

    A batch is a dict: `image` uint8 B×C×S×S, `label` int64 B, `row` int64 B (the manifest's row).
    """

    def __init__(
        self,
        name: str,
        rows: np.ndarray,
        *,
        image_size: int = 128,
        channels: str = "grey",
        in_memory: bool | None = None,
        classes: Sequence[str] | None = None,
        view: str = "stored",
    ):
        self.facts = catalog.get(name)
        self.path = require(name) / "images.h5"
        self.rows = np.asarray(rows, dtype=np.int64)
        self.image_size = image_size
        self.channels = [self.facts.grey] if channels == "grey" else list(range(len(self.facts.channels)))
        manifest = read_manifest(name)
        with h5py.File(self.path) as store:
            if len(store["image"]) != len(manifest):
                raise DataError(
                    f"{self.path}: {len(store['image'])} images but {len(manifest)} manifest rows. "
                    f"Delete the folder and run: python datasets/download.py {name}"
                )
        code = {label: i for i, label in enumerate(classes or self.facts.classes)}
        labels = manifest.label.iloc[self.rows]
        if not labels.isin(code).all():
            raise DataError(f"'{name}' holds images of '{labels[~labels.isin(code)].iloc[0]}', not one of {list(code)}")
        self.labels = torch.tensor(labels.map(code).to_numpy(dtype=np.int64))
        lookup(VIEWS, view, "view")
        self.view = view
        self.turns = turns(name, manifest) if view == "upright" else None
        self._file: tuple[int, h5py.File] | None = None
        size = len(self.rows) * len(self.channels) * image_size**2
        self._images = self._read_all() if (size <= IN_MEMORY_BYTES if in_memory is None else in_memory) else None

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self, row: int) -> torch.Tensor:
        # An HDF5 handle must not be shared by processes: a forked worker opens its own.
        if self._file is None or self._file[0] != os.getpid():
            self._file = (os.getpid(), h5py.File(self.path))
        image = self._file[1]["image"][int(row)]
        image = image[..., None] if image.ndim == 2 else image[..., self.channels]
        if self.view == "upright":
            image = undo(image, self.turns[int(row)])
        elif self.view == "levelled":
            image = np.stack([level(plane) for plane in np.moveaxis(image, 2, 0)], axis=2)
        return torch.from_numpy(_resize(np.ascontiguousarray(image), self.image_size)).permute(2, 0, 1)

    def _read_all(self) -> torch.Tensor:
        images = torch.empty((len(self.rows), len(self.channels), self.image_size, self.image_size), dtype=torch.uint8)
        for i, row in enumerate(self.rows):
            images[i] = self._read(row)
        self._file = None
        return images

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        index = torch.as_tensor(indices)
        images = (
            self._images[index]
            if self._images is not None
            else torch.stack([self._read(self.rows[i]) for i in indices])
        )
        return {"image": images, "label": self.labels[index], "row": torch.as_tensor(self.rows)[index]}

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[0] for key, value in self.__getitems__([index]).items()}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    @staticmethod
    def collate(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`__getitems__` has made the batch already."""
        return batch
