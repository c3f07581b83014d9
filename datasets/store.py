"""Reading what `download.py` wrote: the manifest as a table, the packed images as a torch data set.

Which rows are trained on and which are tested is decided in `protocols.py`.
"""

import os
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset as TorchDataset

from datasets import catalog
from datasets.catalog import DataError

IN_MEMORY_BYTES = 2 * 2**30  # larger selections are read from disk image by image
NUMBERS = ("bytes", "width", "height")


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
        code = {label: i for i, label in enumerate(self.facts.classes)}
        self.labels = torch.tensor([code[manifest.label[r]] for r in self.rows], dtype=torch.int64)
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
