"""Carries masks over: an image that shows a slice of another set gets that slice's mask, as `masks.h5` beside it.

The split table names the patient of each linked image and how the publisher turned it (`links.py`); here the slice is
found among the patient's own. Its mask is turned like the image, resized to the publisher's file and cropped by the
box of the stored image. `download.py NAME --masks-from cheng` is the command, `store/images.py` the reader.
"""

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
from datasets.store.check import Problem, check_carried
from datasets.store.images import CARRIED
from datasets.store.packing import CHECKSUM, COMPRESSION
from datasets.store.preprocess import Box, crop_and_resize, crop_box, decode
from datasets.transforms import TRANSFORMS, turn

VERSION = 1  # raised whenever the masks change for the same files
AGREEMENT = 0.97  # Dice of a mask with itself after a free alignment, below which an image counts as not aligned


class Carried(NamedTuple):
    """The mask of one image, and how well it fits."""

    mask: np.ndarray  # uint8 0/1 S×S×M, on the stored image
    cut: float  # share of the tumour that the crop of the image has cut off
    shift: float  # pixels of the store by which slice and image are still apart, by phase correlation
    dice: float  # of the mask with itself moved by that shift: 1 where there is nothing to align


def carry(name: str, source: str) -> Path:
    """Carry the masks of `source` over to the images of data set `name`; returns the file. Run again, it does nothing.

    Raises `DataError` where a set is not here or without its publisher's files, has no masks, or is not linked.
    """
    catalog.require_masks(source)
    home, slices_home = index.require(name), index.require(source)
    table = index.read_splits(name, index.read_manifest(name)) if not catalog.get(name).mask_channels else None
    if table is None or "transform" not in table or not table["transform"].any():
        raise DataError(
            f"'{name}': no table in {index.SPLITS} links its images to slices of '{source}'. Sets that are linked: "
            "brain-tumor-mri, sartaj"
        )
    for raw in (home / "raw", slices_home / "raw"):
        if not raw.is_dir():
            raise DataError(
                f"{raw}: the publisher's files are needed to carry masks over, and are not kept here. "
                f"Run: python datasets/download.py {raw.parent.name} --archive FILE --replace"
            )
    path, log = home / CARRIED, manifest.read_log(home)
    if log is None:
        raise DataError(f"{home}: log.json does not vouch for the images. Run: python datasets/download.py {name}")
    table = table[["path", "label", "patient", "transform"]]
    facts = {"name": name, "source": source, "channels": ",".join(catalog.get(source).mask_channels)}
    facts |= {"images_sha256": log["images_sha256"], "source_sha256": manifest.sha256(slices_home / "manifest.csv")}
    facts |= {"links_sha256": index.short_digest(table.to_csv(index=False).encode()), "version": VERSION}
    found = check_carried(home, len(table), log["images_sha256"])
    if found and not isinstance(found[0], Problem) and _facts(path) == facts:
        print(f"{name}: the masks of {source} are in {path}; nothing to do")
        return path
    with data_folder.disk_errors(home), data_folder.locked(home):
        masks, links = _carry_all(home, source, table, log)
        _write(path, masks, links, facts)
    linked, numbers = links.slice.ne(""), links[["cut", "dice"]].apply(pd.to_numeric)
    lacking = int((~linked & links.label.ne(catalog.HEALTHY)).sum())
    print(
        f"{name}: {linked.sum():,} of {len(links):,} images have the mask of their slice of {source}, "
        f"{lacking:,} with a tumour have none. "
        f"Dice after a free alignment: median {numbers.dice.median():.3f}, smallest {numbers.dice.min():.3f}, below "
        f"{AGREEMENT} in {(numbers.dice < AGREEMENT).sum()}. The crop cuts into {(numbers.cut > 0).sum()} "
        f"tumours and leaves nothing of {(numbers.cut == 1).sum()}."
    )
    return path


def carried(
    mask: np.ndarray, slice_image: np.ndarray, transform: str, image: np.ndarray, box: Box, size: int
) -> Carried:
    """The mask (uint8 0/1 h×w×M) of a slice (uint8 h×w) on an image that shows this slice.

    `transform`: what was done to the slice to give the image, a key of `TRANSFORMS`; `image`: uint8 H×W of any size, as
    its publisher ships it; `box`: what is stored of it; `size`: S of the store.
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
    move, union = np.float32([[1, 0, x], [0, 1, y]]), out.any(axis=2)
    aligned = cv2.warpAffine(union.astype(np.float32), move, (size, size)) > 0.5
    total = int(union.sum()) + int(aligned.sum())
    dice = 2 * int((union & aligned).sum()) / total if total else 1.0
    return Carried(out, float(cut), float(np.hypot(x, y)), dice)


def _places(ends: tuple[int, int], of: int, length: int, size: int) -> np.ndarray:
    """Where the middle of each of `size` stored pixels lies along an axis of the slice, which is `length` long.

    `ends`: of the stored box, in pixels of an image of `of`. Nearest neighbours once: resizing a mask twice would move
    its edge.
    """
    middles = ends[0] + (np.arange(size) + 0.5) / size * (ends[1] - ends[0])
    return np.clip((middles / of * length).astype(int), 0, length - 1)


def _carry_all(home: Path, source: str, table: pd.DataFrame, log: dict) -> tuple[np.ndarray, pd.DataFrame]:
    """Masks N×S×S×M, and a row an image: path, label, slice ("" where it shows none), and how well its mask fits."""
    facts, known, size = catalog.get(source), index.read_manifest(source), log["size"]
    masks = np.zeros((len(table), size, size, len(facts.mask_channels)), np.uint8)
    links = table.assign(slice="", correlation="", cut="", shift="", dice="")
    linked = table[table["transform"].ne("")]
    with bar(len(linked), "carrying masks over", "images") as progress:
        for patient, rows in linked.groupby("patient"):
            files = known.path[known.patient == patient].tolist()
            if not files:
                continue
            slices = [layouts.read(facts, home.parent / source / "raw", file)[0] for file in files]
            small = [thumbnail(raw.image, SIDE) for raw in slices]
            for row, path, transform in zip(rows.index, rows.path, rows["transform"], strict=True):
                progress.update()
                image = decode(home / "raw" / path)
                turned = np.stack([TRANSFORMS[transform](one) for one in small]).reshape(len(files), -1)
                alike = turned @ thumbnail(image, SIDE).ravel()
                best = int(alike.argmax())
                if alike[best] < NEAR_CORRELATION:  # the table was made of other files than those at hand
                    continue
                box = crop_box(image, log["crop"])
                found = carried(slices[best].mask, slices[best].image, transform, image, box, size)
                masks[row] = found.mask
                links.loc[row, "slice"] = files[best]
                fit = (alike[best], found.cut, found.shift, found.dice)
                links.loc[row, ["correlation", "cut", "shift", "dice"]] = [f"{value:.4f}" for value in fit]
    return masks, links


def _facts(path: Path) -> dict[str, object]:
    with hdf5.opened(path) as store:
        return {name: value if isinstance(value, str) else int(value) for name, value in store.attrs.items()}


def _write(path: Path, masks: np.ndarray, links: pd.DataFrame, facts: dict[str, object]) -> None:
    """Write the masks and their links, which appear when both are whole; where that fails, nothing is left of them."""
    table = path.with_suffix(".csv")
    partial = {place: place.with_name(f".{place.name}.partial") for place in (path, table)}
    # in memory first, since HDF5 crashes where the disk is full
    with h5py.File(CARRIED, "w", driver="core", backing_store=False) as store:
        chunk = (1, *masks.shape[1:])
        store.create_dataset("mask", data=masks, chunks=chunk, **COMPRESSION["mask"], **CHECKSUM)
        store["linked"] = links.slice.ne("").to_numpy(np.uint8)
        store.attrs.update(facts)
        store.flush()
        content = store.id.get_file_image()
    try:
        partial[path].write_bytes(content)
        links.to_csv(partial[table], index=False)
        table.unlink(missing_ok=True)  # the masks of one time never lie beside the links of another
        partial[path].replace(path)
        partial[table].replace(table)
    finally:
        for left in partial.values():
            left.unlink(missing_ok=True)
