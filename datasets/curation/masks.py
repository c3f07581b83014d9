"""Carries masks over: an image that shows a slice of another set gets that slice's mask, as `masks.h5` beside it.

The split table names the patient of each linked image and how the publisher turned it (`links.py`); here the slice is
found among the patient's own. Its mask is turned like the image, resized to the publisher's file and cropped by the
box of the stored image. `download.py NAME --masks-from cheng` is the command, `store/masks.py` the reader.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import pandas as pd

from datasets import catalog, data_folder, hdf5
from datasets.catalog import DataError
from datasets.curation.duplicates import NEAR_CORRELATION
from datasets.curation.thumbnails import SIDE, thumbnail
from datasets.intake import bar
from datasets.sources import layouts
from datasets.store import index, manifest
from datasets.store.masks import CARRIED, LINKS, check_carried
from datasets.store.packing import CHECKSUM, COMPRESSION
from datasets.store.preprocess import CROPS, Box, RawImage, crop_and_resize, decode, margin_box
from datasets.transforms import TRANSFORMS, turn

VERSION = 1  # raised whenever the masks change for the same files
AGREEMENT = 0.97  # Dice of a mask with itself after a free alignment, below which an image counts as not aligned


class Carried(NamedTuple):
    """The mask of one image, and how well it fits.

    Attributes:
        mask: uint8 0/1 S×S×M, on the stored image.
        cut: share of the tumour that the crop of the image has cut off.
        shift: pixels of the store by which slice and image are still apart, by phase correlation.
        dice: of the mask with itself moved by that shift: 1 where there is nothing to align.
    """

    mask: np.ndarray
    cut: float
    shift: float
    dice: float


def carry(name: str, source: str) -> Path:
    """Carry the masks of `source` over to the images of data set `name`; returns the file. Run again, it does nothing.

    Raises:
        DataError: one of the sets is not here or without its publisher's files, has no masks, or is not linked.
    """
    catalog.require_masks(source)
    home, slices_home = index.require(name), index.require(source)
    table = _links(name, source)
    raw, slices_raw = (_require_raw(of) for of in (name, source))
    log = manifest.read_log(home)
    if log is None:
        raise DataError(f"{home}: log.json does not vouch for the images. Run: python datasets/download.py {name}")
    facts = {
        "name": name,
        "source": source,
        "channels": ",".join(catalog.get(source).mask_channels),
        "images_sha256": log["images_sha256"],
        "source_sha256": manifest.sha256(slices_home / "manifest.csv"),
        "links_sha256": index.short_digest(table.to_csv(index=False).encode()),
        "version": VERSION,
    }
    path = home / CARRIED
    if _is_whole(path, facts, len(table)):
        print(f"{name}: the masks of {source} are in {path}; nothing to do")
        return path
    with data_folder.disk_errors(home), data_folder.locked(home):
        masks, links = _carry_all(name, source, table, raw, slices_raw, log)
        _write(path, masks, links, facts)
    print(summary(name, source, links))
    return path


def summary(name: str, source: str, links: pd.DataFrame) -> str:
    """What was carried over, in words."""
    linked = links[links.slice.ne("")]
    numbers = linked[["cut", "dice"]].astype(float)
    tumours = links.label.ne(catalog.HEALTHY)
    return (
        f"{name}: {len(linked):,} of {len(links):,} images have the mask of their slice of {source}, "
        f"{int((tumours & links.slice.eq('')).sum()):,} with a tumour have none. "
        f"Dice after a free alignment: median {numbers.dice.median():.3f}, smallest {numbers.dice.min():.3f}, below "
        f"{AGREEMENT} in {int((numbers.dice < AGREEMENT).sum())}. The crop cuts into {int((numbers.cut > 0).sum())} "
        f"tumours and leaves nothing of {int((numbers.cut == 1).sum())}."
    )


def carried(
    mask: np.ndarray, slice_image: np.ndarray, transform: str, image: np.ndarray, box: Box, size: int
) -> Carried:
    """The mask of a slice on an image that shows this slice.

    Args:
        mask: uint8 0/1 h×w×M of the slice, slice_image: uint8 h×w.
        transform: what was done to the slice to give the image, a key of `TRANSFORMS`.
        image: uint8 H×W of any size, as its publisher ships it; box: what is stored of it; size: S of the store.
    """
    height, width = image.shape
    moved = turn(mask, transform)
    rows, columns = _places(box[:2], height, len(moved), size), _places(box[2:], width, moved.shape[1], size)
    out = np.ascontiguousarray(moved[np.ix_(rows, columns)])
    kept = moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = 1 - kept.sum() / max(moved.sum(), 1)
    shown = cv2.resize(np.ascontiguousarray(TRANSFORMS[transform](slice_image)), (width, height))
    pair = [crop_and_resize(grey, box, size).astype(np.float32) for grey in (shown, image)]
    (x, y), _ = cv2.phaseCorrelate(*pair, cv2.createHanningWindow((size, size), cv2.CV_32F))
    move = np.float32([[1, 0, x], [0, 1, y]])
    aligned = cv2.warpAffine(out.any(axis=2).astype(np.float32), move, (size, size)) > 0.5
    return Carried(out, float(cut), float(np.hypot(x, y)), _dice(out.any(axis=2), aligned))


def _places(ends: tuple[int, int], of: int, length: int, size: int) -> np.ndarray:
    """Where the middle of each of `size` stored pixels lies along an axis of the slice.

    Args:
        ends: of the stored box, in pixels of an image of `of`; length: of the slice. Nearest neighbours once, since
            resizing a mask twice would move its edge.
    """
    middles = ends[0] + (np.arange(size) + 0.5) / size * (ends[1] - ends[0])
    return np.clip((middles / of * length).astype(int), 0, length - 1)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def _links(name: str, source: str) -> pd.DataFrame:
    """The split table of `name` in manifest order, `transform` set where an image shows a slice of `source`."""
    rows = index.read_manifest(name)
    table = index.read_splits(name, rows) if not catalog.get(name).mask_channels else None
    if name == source or table is None or "transform" not in table or not table["transform"].any():
        raise DataError(
            f"'{name}': no table in {index.SPLITS} links its images to slices of '{source}'. Sets that are linked: "
            "brain-tumor-mri, sartaj"
        )
    return table[["path", "label", "patient", "transform"]]


def _require_raw(name: str) -> Path:
    raw = catalog.dataset_dir(name) / "raw"
    if not raw.is_dir():
        raise DataError(
            f"{raw}: the publisher's files are needed to carry masks over, and are not kept here. "
            f"Run: python datasets/download.py {name} --archive FILE --replace"
        )
    return raw


def _carry_all(
    name: str, source: str, table: pd.DataFrame, raw: Path, slices_raw: Path, log: dict
) -> tuple[np.ndarray, pd.DataFrame]:
    """Masks N×S×S×M, and a row an image: path, label, slice ("" where it shows none), and how well its mask fits."""
    size, channels = log["size"], len(catalog.get(source).mask_channels)
    masks = np.zeros((len(table), size, size, channels), np.uint8)
    links = table.assign(slice="", correlation="", cut="", shift="", dice="")
    with bar(int(table["transform"].ne("").sum()), "carrying masks over", "images") as progress:
        for row, path, slices in _by_patient(table, source, slices_raw):
            progress.update()
            image = decode(raw / path)
            best, correlation = _most_alike(image, [turned(s, table["transform"][row]) for s in slices.values()])
            if correlation < NEAR_CORRELATION:  # the table was made of other files than those at hand
                continue
            file = list(slices)[best]
            box = _box(image, log["crop"])
            found = carried(slices[file].mask, slices[file].image, table["transform"][row], image, box, size)
            masks[row] = found.mask
            fit = {"correlation": correlation, "cut": found.cut, "shift": found.shift, "dice": found.dice}
            links.loc[row, ["slice", *fit]] = [file, *(f"{value:.4f}" for value in fit.values())]
    return masks, links


def _by_patient(table: pd.DataFrame, source: str, slices_raw: Path) -> Iterator[tuple[int, str, dict[str, RawImage]]]:
    """Row and path of each linked image with the slices of its patient, which are read once a patient."""
    facts, known = catalog.get(source), index.read_manifest(source)
    for patient, rows in table[table["transform"].ne("")].groupby("patient"):
        files = known.path[known.patient == patient]
        slices = {file: layouts.read(facts, slices_raw, file)[0] for file in files}
        for row, path in rows.path.items():
            if slices:
                yield row, path, slices


def turned(raw: RawImage, transform: str) -> np.ndarray:
    """Thumbnail of a slice after a transform, 64×64."""
    return TRANSFORMS[transform](thumbnail(raw.image, SIDE))


def _most_alike(image: np.ndarray, thumbnails: list[np.ndarray]) -> tuple[int, float]:
    """Number and correlation of the thumbnail that is most like an image H×W."""
    values = np.stack(thumbnails).reshape(len(thumbnails), -1) @ thumbnail(image, SIDE).ravel()
    return int(values.argmax()), float(values.max())


def _box(image: np.ndarray, crop: str) -> Box:
    """What is stored of an image that has no mask of its own, see `preprocess.prepare`."""
    share = CROPS[crop]
    return (0, image.shape[0], 0, image.shape[1]) if share is None else margin_box(image, share)


def _is_whole(path: Path, facts: dict[str, object], images: int) -> bool:
    """Whether masks of just these facts lie at `path`, every one of them as it was written."""
    try:
        with hdf5.opened(path) as store:
            same = all(store.attrs.get(key) == value for key, value in facts.items())
    except DataError:  # it is not there or damaged: it is made anew
        return False
    return same and not check_carried(path.parent, images, str(facts["images_sha256"]))[1]


def _write(path: Path, masks: np.ndarray, links: pd.DataFrame, facts: dict[str, object]) -> None:
    """Write the masks and their links, which appear when both are whole; where that fails, nothing is left of them."""
    table = path.with_name(LINKS)
    partial = {place: place.with_name(f".{place.name}.partial") for place in (path, table)}
    try:
        partial[path].write_bytes(_store(masks, links, facts))
        links.to_csv(partial[table], index=False)
        table.unlink(missing_ok=True)  # the masks of one time never lie beside the links of another
        partial[path].replace(path)
        partial[table].replace(table)
    finally:
        for left in partial.values():
            left.unlink(missing_ok=True)


def _store(masks: np.ndarray, links: pd.DataFrame, facts: dict[str, object]) -> bytes:
    """The HDF5 file, made in memory, since HDF5 crashes where the disk is full."""
    with h5py.File(CARRIED, "w", driver="core", backing_store=False) as store:
        chunk = (1, *masks.shape[1:])
        store.create_dataset("mask", data=masks, chunks=chunk, **COMPRESSION["mask"], **CHECKSUM)
        store["linked"] = links.slice.ne("").to_numpy(np.uint8)
        store.attrs.update(facts)
        store.flush()
        return store.id.get_file_image()
