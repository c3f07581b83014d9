"""`ImageDataset`: the packed images of a data set as a torch data set, and their masks.

Masks lie in the set's own store, or in `masks.h5` beside it, carried over from another set by `curation/masks.py`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from datasets import catalog, hdf5
from datasets.catalog import HEALTHY, DataError, lookup
from datasets.labels import classes_of, viewed
from datasets.reading import reading
from datasets.store import index, manifest
from datasets.store.index import check_command, read_manifest, require, turns
from datasets.store.packing import processes_here
from datasets.store.preprocess import as_input, crop_and_resize
from datasets.transforms import VIEWS

IN_MEMORY_BYTES = 2 * 2**30  # more, for all processes of a node together, is read from disk image by image
CARRIED = "masks.h5"  # masks of another set on these images


def with_masks() -> list[str]:
    """Names of the data sets whose publisher made masks."""
    return [name for name in catalog.CATALOG if catalog.get(name).mask_channels]


def mask_channels(name: str) -> tuple[str, ...]:
    """Names of the mask's channels of data set `name`; none where it has no masks, of its own or carried over."""
    if own := catalog.get(name).mask_channels:
        return own
    path = catalog.dataset_dir(name) / CARRIED
    return tuple(_carried(path)["channels"].split(",")) if path.is_file() else ()


def _carried(path: Path) -> dict[str, str]:
    """Facts of carried masks: `channels`, `source`, `images_sha256`."""
    with hdf5.opened(path, check_command(path.parent.name)) as store:
        return {name: str(store.attrs[name]) for name in ("channels", "source", "images_sha256")}


def mask_file(name: str) -> Path:
    """The HDF5 file whose `mask` holds the masks of data set `name`, a row an image; `DataError` where there are none,
    or they were carried over to images that have been packed anew since."""
    home = require(name)
    path, again = home / CARRIED, f"python datasets/download.py {name} --masks-from"
    with hdf5.opened(home / "images.h5", check_command(name)) as store:
        if "mask" in store:
            return home / "images.h5"
    if not path.is_file():
        raise DataError(
            f"{home / 'images.h5'}: '{name}' has no masks; sets with masks: {', '.join(with_masks())}. "
            f"Images that show slices of 'cheng' take its masks: {again} cheng"
        )
    facts, log = _carried(path), manifest.read_log(home)
    if log is None or facts["images_sha256"] != log["images_sha256"]:
        raise DataError(f"{path}: made for other images than those beside it. Run: {again} {facts['source']}")
    return path


def outlined(name: str) -> np.ndarray:
    """Of every image of data set `name`, whether its mask is known, bool N: an image without a tumour has an empty one.
    Raises `DataError` as `mask_file`."""
    labels = read_manifest(name).label.to_numpy()
    with hdf5.opened(mask_file(name), check_command(name)) as store:
        linked = hdf5.read(store, "linked").astype(bool) if "linked" in store else np.ones(len(labels), bool)
    return linked | (labels == HEALTHY)


def read_masks(name: str, rows: np.ndarray) -> np.ndarray:
    """Masks of some rows as stored, uint8 0/1 N×M×H×W; predictions are scored at this size, whatever the input's."""
    with hdf5.opened(mask_file(name), check_command(name)) as store:
        hdf5.array(store, "mask", most=None)
        return np.stack([_at(store["mask"], row) for row in rows]).transpose(0, 3, 1, 2)


def _at(stored: h5py.Dataset, row: int, channels: Sequence[int] = ()) -> np.ndarray:
    """Image or mask of one row, of several sequences those of `channels`; `DataError` where it has not the checksum
    that it was written with."""
    try:
        if channels and stored.ndim == 4 and stored.chunks[-1] == 1:
            # one by one, since all at once take twice as long to be put together
            return np.stack([stored[int(row), ..., channel] for channel in channels], axis=-1)
        found = stored[int(row)]
        return found[..., channels] if channels and found.ndim == 3 else found
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        remedy, what = check_command(stored.file.attrs.get("name", "NAME")), stored.name.strip("/")
        raise DataError(f"{stored.file.filename}: {what} {row} changed on disk or cannot be read; {remedy}") from error


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Stored grey values, of 8 or 16 bits, as float in [0, 1]."""
    return images.float() / torch.iinfo(images.dtype).max


class ImageDataset(TorchDataset):
    """Images, labels and masks of some rows of one data set.

    A DataLoader fetches whole batches at once (`batch`); it needs `collate_fn=ImageDataset.collate`.

    Args:
        name: data set; rows: indices into its manifest, in the order wanted.
        image_size: side in pixels that images are resized to.
        channels: "grey" for the one grey channel, "all" for every stored channel.
        in_memory: keep the resized images in memory; by default when they fit `IN_MEMORY_BYTES`. Otherwise each worker
            opens the file for itself and reads single images.
        target: key of `labels.TARGETS`, what is asked of each image.
        classes: labels in the order of their numbers; the set's own by default, another's in an external test.
        view: key of `VIEWS`, what is done to every image before it is resized.
        masks: read the masks as well, of the set or carried over, only with `view="stored"`.
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
        lookup(VIEWS, view, "view")
        if masks and view != "stored":
            raise DataError(f"view='{view}': masks lie on the images as stored, take view='stored'")
        self.facts, self.view, self.image_size = catalog.get(name), view, image_size
        self.path = require(name) / "images.h5"
        self.part_of = dict(part_of or {})
        self.mask_path = mask_file(name) if masks else self.path
        self._stamps = self._stamps_now()
        self.rows = np.array(rows, dtype=np.int64)  # a copy: it may come read-only from a table
        self.channels = [self.facts.grey] if channels == "grey" else list(range(len(self.facts.channels)))
        table = read_manifest(name)
        with hdf5.opened(self.path, check_command(name)) as store:
            stored = hdf5.array(store, "image", most=None)
            if len(stored) != len(table):
                raise DataError(f"{self.path}: {len(stored)} images but {len(table)} manifest rows; bring it in again")
            self.dtype = torch.from_numpy(np.empty(0, stored.dtype)).dtype
        self.classes = tuple(classes or classes_of(name, target))
        if target == "findings":
            self.labels = torch.from_numpy(index.read_findings(name, table, self.rows)).float()
        else:
            code = {label: i for i, label in enumerate(self.classes)}
            labels = viewed(table.label.iloc[self.rows], target)
            if other := sorted(set(labels) - set(code)):
                raise DataError(f"'{name}' holds images of '{other[0]}', not one of {list(code)}")
            self.labels = torch.tensor(labels.map(code).to_numpy(dtype=np.int64))
        self.turns = turns(name, table) if view == "upright" else None
        self.mask_channels = len(mask_channels(name)) if masks else 0
        self.outlined = torch.from_numpy(outlined(name)[self.rows]) if masks else None
        self._opened: tuple[int, dict[str, h5py.Dataset]] | None = None
        self._kept: dict[str, torch.Tensor] | None = None
        bytes_a_pixel = len(self.channels) * self.dtype.itemsize + self.mask_channels
        size = len(self.rows) * bytes_a_pixel * image_size**2 * processes_here()
        self.in_memory = size <= IN_MEMORY_BYTES if in_memory is None else in_memory
        if self.in_memory:
            shape = (len(self.rows), len(self.channels), image_size, image_size)
            kept = {"image": torch.empty(shape, dtype=self.dtype)}
            if self.mask_channels:
                kept["mask"] = torch.empty((shape[0], self.mask_channels, *shape[2:]), dtype=torch.uint8)
            for i, row in enumerate(self.rows):
                for part, pixels in self._read(row).items():
                    kept[part][i] = pixels
            self._kept, self._opened = kept, None

    def identity(self) -> dict[str, str]:
        """What these images are and how they are read, by name: a checkpoint of a training on them keeps it.
        Raises `DataError` where the files were replaced since this data set was made of them."""
        self._require_same_files()
        digests = index.fingerprint(self.facts.name) | {self.mask_path.name: index.file_digest(self.mask_path)}
        found = {file: digest[:12] for file, digest in digests.items() if file != "images"}
        found["rows"] = index.short_digest(self.rows.tobytes() + self.labels.numpy().tobytes())
        found |= {"view": self.view, "image_size": str(self.image_size), "masks": str(self.mask_channels)}
        found["channels"] = ",".join(self.facts.channels[i] for i in self.channels)
        if self.turns is not None:  # they come from a committed table, not from the set's own files
            found["turns"] = index.short_digest("\n".join(self.turns[self.rows]).encode())
        return {"data set": self.facts.name} | found | self.part_of

    def _stamps_now(self) -> list[tuple[int, int, int]]:
        # sorted: a set of paths has another order in a worker that was started anew
        paths = {*(self.path.with_name(file) for file in index.FILES), self.mask_path}
        return [index.stamp(path) for path in sorted(paths)]

    def _require_same_files(self) -> None:
        if self._stamps_now() != self._stamps:
            raise DataError(f"{self.path}: replaced since it was opened. Start again, so that all is read from one set")

    def __len__(self) -> int:
        return len(self.rows)

    def _stored(self, name: str) -> h5py.Dataset:
        # An HDF5 handle must not be shared by processes: a forked worker opens its own. Looking `name` up in the file
        # for every image would take longer than reading it.
        if self._opened is None or self._opened[0] != os.getpid():
            self._require_same_files()
            files = {"image": self.path} | ({"mask": self.mask_path} if self.mask_channels else {})
            with reading(self.path, check_command(self.facts.name)):
                self._opened = (os.getpid(), {part: hdf5.unlocked(path)[part] for part, path in files.items()})
        return self._opened[1][name]

    def _read(self, row: int) -> dict[str, torch.Tensor]:
        image = _at(self._stored("image"), row, self.channels)
        image = image[..., None] if image.ndim == 2 else image
        turn = "upright" if self.turns is None else self.turns[int(row)]
        found = {"image": torch.from_numpy(as_input(image, self.image_size, self.view, turn))}
        if self.mask_channels:  # a pixel is 1 where the mask covers at least half of it
            mask = _at(self._stored("mask"), row).astype(np.float32)
            small = np.rint(crop_and_resize(mask, None, self.image_size) + 1e-6).astype(np.uint8)
            found["mask"] = torch.from_numpy(small).permute(2, 0, 1)
        return found

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The images at `indices` of this data set as one batch; keys and shapes as above."""
        chosen = torch.as_tensor(list(indices))
        if self._kept is not None:
            batch = {name: pixels[chosen] for name, pixels in self._kept.items()}
        else:
            read = [self._read(self.rows[i]) for i in indices]
            batch = {name: torch.stack([one[name] for one in read]) for name in read[0]}
        if self.outlined is not None:
            batch["outlined"] = self.outlined[chosen]
        return batch | {"label": self.labels[chosen], "row": torch.as_tensor(self.rows)[chosen]}

    __getitems__ = batch  # torch's DataLoader fetches whole batches by this name

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[0] for key, value in self.batch([index]).items()}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    @staticmethod
    def collate(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch itself, which `batch` has already assembled."""
        return batch
