"""`ImageDataset`: the packed images of a data set as a torch data set, and their masks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from datasets import catalog, hdf5
from datasets.catalog import DataError, lookup
from datasets.labels import classes_of, viewed
from datasets.reading import reading
from datasets.store.findings import read_findings
from datasets.store.index import (
    FILES,
    check_command,
    file_digest,
    fingerprint,
    read_manifest,
    require,
    short_digest,
    stamp,
    turns,
)
from datasets.store.inputs import as_input, resize
from datasets.store.masks import mask_channels, mask_file, outlined
from datasets.store.parallel import processes_here
from datasets.transforms import VIEWS

# Larger selections are read from disk image by image. Each process of a node keeps a copy of its own: where all of
# them together are larger, each reads its share of every batch.
IN_MEMORY_BYTES = 2 * 2**30


def read_masks(name: str, rows: np.ndarray) -> np.ndarray:
    """Masks of some rows as stored, uint8 0/1 N×M×H×W; predictions are scored at this size, whatever the input's."""
    with hdf5.opened(mask_file(name), check_command(name)) as store:
        _at_hand(store, "mask")
        return np.stack([_at(store, "mask", row) for row in rows]).transpose(0, 3, 1, 2)


def packed_by(name: str) -> tuple[str, int]:
    """Crop rule and side in pixels that the images of data set `name` lie on disk with; they need not be its usual."""
    with hdf5.opened(require(name) / "images.h5", check_command(name)) as store:
        return str(store.attrs.get("crop", catalog.get(name).crop)), int(store["image"].shape[1])


def _opened(path: Path) -> h5py.File:
    with reading(path, check_command(path.parent.name)):
        return h5py.File(path)


def _at_hand(store: h5py.File, *names: str) -> None:
    """Raise `DataError` where an array of the store leads out of it."""
    for name in names:
        hdf5.array(store, name, most=None)


def _at(store: h5py.File, name: str, row: int) -> np.ndarray:
    """Image or mask of one row; `DataError` where it has not the checksum that it was written with."""
    try:
        return store[name][int(row)]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        command = check_command(store.attrs.get("name", "NAME"))
        raise DataError(f"{store.filename}: {name} {row} changed on disk or cannot be read; {command}") from error


def _resize_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """H×W×C of 0 and 1 → side×side×C; a pixel is 1 where the mask covers at least half of it."""
    return np.rint(resize(mask.astype(np.float32), side) + 1e-6).astype(np.uint8)


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Stored grey values, of 8 or 16 bits, as float in [0, 1]."""
    return images.float() / torch.iinfo(images.dtype).max


class ImageDataset(TorchDataset):
    """Images, labels and masks of some rows of one data set.

    A DataLoader fetches whole batches at once (`batch`); it needs `collate_fn=ImageDataset.collate`.

    Args:
        name: data set, see `catalog.CATALOG`.
        rows: indices into the manifest, in the order wanted.
        image_size: side in pixels that images are resized to.
        channels: "grey" for the one grey channel, "all" for every stored channel.
        in_memory: keep the resized images in memory; by default when those of all processes of this node fit
            `IN_MEMORY_BYTES`. Otherwise each worker opens the file for itself and reads single images.
        target: key of `labels.TARGETS`, what is asked of each image.
        classes: labels in the order of their numbers; the set's own by default, another's in an external test.
        view: key of `VIEWS`, what is done to every image before it is resized.
        masks: read the masks as well, of the set or carried over (`store/masks.py`), only with `view="stored"`.
        part_of: further facts for `identity`, such as the run that these images are read for.

    Raises:
        DataError: store and manifest disagree, a label is not among `classes`, a view lacks its split table, masks are
            wanted where there are none, or (also later) the files were replaced since.

    A batch is a dict: `image` B×C×S×S, uint8 or uint16 as stored, `label` int64 B (of findings float32
    B×K, 0 or 1), `row` int64 B (the manifest's row), and with masks `mask` uint8 0/1 B×M×S×S and `outlined` bool B,
    whether the mask of an image is known; where it is not, it is all 0.
    """

    def __init__(
        self,
        name: str,
        rows: np.ndarray,
        *,
        image_size: int = 128,
        channels: str = "grey",
        in_memory: bool | None = None,
        target: str = "label",
        classes: Sequence[str] | None = None,
        view: str = "stored",
        masks: bool = False,
        part_of: Mapping[str, str] | None = None,
    ):
        self.facts = catalog.get(name)
        self.path = require(name) / "images.h5"
        self.part_of = dict(part_of or {})
        self.mask_path = mask_file(name) if masks else self.path
        self._stamps = self._stamps_now()
        self.rows = np.array(rows, dtype=np.int64)  # a copy: it may come read-only from a table
        self.image_size = image_size
        self.channels = [self.facts.grey] if channels == "grey" else list(range(len(self.facts.channels)))
        manifest = read_manifest(name)
        with hdf5.opened(self.path, check_command(name)) as store:
            _at_hand(store, "image")
            if len(store["image"]) != len(manifest):
                raise DataError(
                    f"{self.path}: {len(store['image'])} images but {len(manifest)} manifest rows. "
                    f"Delete the folder and run: python datasets/download.py {name}"
                )
            self.dtype = torch.from_numpy(np.empty(0, store["image"].dtype)).dtype
        self.classes = tuple(classes or classes_of(name, target))
        if target == "findings":
            self.labels = torch.from_numpy(read_findings(name, manifest, self.rows)).float()
        else:
            code = {label: i for i, label in enumerate(self.classes)}
            labels = viewed(manifest.label.iloc[self.rows], target)
            if not labels.isin(code).all():
                other = labels[~labels.isin(code)].iloc[0]
                raise DataError(f"'{name}' holds images of '{other}', not one of {list(code)}")
            self.labels = torch.tensor(labels.map(code).to_numpy(dtype=np.int64))
        lookup(VIEWS, view, "view")
        self.view = view
        self.turns = turns(name, manifest) if view == "upright" else None
        self.mask_channels = len(mask_channels(name)) if masks else 0
        self.outlined = torch.from_numpy(outlined(name)[self.rows]) if masks else None
        if masks and view != "stored":
            raise DataError(f"view='{view}': masks lie on the images as stored, take view='stored'")
        self._files: tuple[int, dict[Path, h5py.File]] | None = None
        bytes_a_pixel = len(self.channels) * self.dtype.itemsize + self.mask_channels
        size = len(self.rows) * bytes_a_pixel * image_size**2 * processes_here()
        self._kept = self._read_all() if (size <= IN_MEMORY_BYTES if in_memory is None else in_memory) else None

    @property
    def in_memory(self) -> bool:
        """Whether the images were read once and kept."""
        return self._kept is not None

    def identity(self) -> dict[str, str]:
        """What these images are and how they are read, by name: a checkpoint of a training on them keeps it.

        Raises:
            DataError: the files were replaced since this data set was made of them.
        """
        self._same_files()
        files = {file: digest[:12] for file, digest in fingerprint(self.facts.name).items() if file in FILES}
        if self.mask_path != self.path:
            files[self.mask_path.name] = file_digest(self.mask_path)[:12]
        channels = ",".join(self.facts.channels[i] for i in self.channels)
        how = {"view": self.view, "image_size": self.image_size, "channels": channels, "masks": self.mask_channels}
        if self.turns is not None:  # they come from a committed table, not from the set's own files
            how["turns"] = short_digest("\n".join(self.turns[self.rows]).encode())
        rows = short_digest(self.rows.tobytes() + self.labels.numpy().tobytes())
        found = {"data set": self.facts.name} | files | {"rows": rows} | how | self.part_of
        return {name: str(value) for name, value in found.items()}

    def _stamps_now(self) -> list[tuple[int, int, int]]:
        # sorted: a set of paths has another order in a worker that was started anew
        return [stamp(path) for path in sorted({*(self.path.with_name(file) for file in FILES), self.mask_path})]

    def _same_files(self) -> None:
        if self._stamps_now() != self._stamps:
            raise DataError(f"{self.path}: replaced since it was opened. Start again, so that all is read from one set")

    def __len__(self) -> int:
        return len(self.rows)

    def _store(self, path: Path) -> h5py.File:
        # An HDF5 handle must not be shared by processes: a forked worker opens its own.
        if self._files is None or self._files[0] != os.getpid():
            self._same_files()
            self._files = (os.getpid(), {path: _opened(path) for path in {self.path, self.mask_path}})
        return self._files[1][path]

    def _read(self, row: int) -> torch.Tensor:
        image = _at(self._store(self.path), "image", row)
        image = image[..., None] if image.ndim == 2 else image[..., self.channels]
        turn = self.turns[int(row)] if self.view == "upright" else "upright"
        return torch.from_numpy(as_input(image, self.image_size, self.view, turn))

    def _read_mask(self, row: int) -> torch.Tensor:
        return torch.from_numpy(_resize_mask(_at(self._store(self.mask_path), "mask", row), self.image_size)).permute(
            2, 0, 1
        )

    def _read_all(self) -> dict[str, torch.Tensor]:
        side = (self.image_size, self.image_size)
        kept = {"image": torch.empty((len(self.rows), len(self.channels), *side), dtype=self.dtype)}
        if self.mask_channels:
            kept["mask"] = torch.empty((len(self.rows), self.mask_channels, *side), dtype=torch.uint8)
        for i, row in enumerate(self.rows):
            kept["image"][i] = self._read(row)
            if self.mask_channels:
                kept["mask"][i] = self._read_mask(row)
        self._files = None
        return kept

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The images at `indices` of this data set as one batch; keys and shapes as above."""
        index = torch.as_tensor(list(indices))
        if self._kept is not None:
            batch = {name: pixels[index] for name, pixels in self._kept.items()}
        else:
            batch = {"image": torch.stack([self._read(self.rows[i]) for i in indices])}
            if self.mask_channels:
                batch["mask"] = torch.stack([self._read_mask(self.rows[i]) for i in indices])
        known = {} if self.outlined is None else {"outlined": self.outlined[index]}
        return batch | known | {"label": self.labels[index], "row": torch.as_tensor(self.rows)[index]}

    __getitems__ = batch  # torch's DataLoader fetches whole batches by this name

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[0] for key, value in self.batch([index]).items()}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_files": None}

    @staticmethod
    def collate(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch itself, which `batch` has already assembled."""
        return batch
