"""Carries masks over: an image that shows a slice of another set gets that slice's mask, as `masks.h5` beside it.

The split table names the patient of each linked image and how the publisher turned it (`links.py`); here the slice is
found among the patient's own. Its mask is turned like the image, resized to the publisher's file and cropped by the
box of the stored image. `download.py NAME --masks-from cheng` is the command, `store/images.py` the reader.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets import catalog, data_folder
from datasets.catalog import DataError
from datasets.curation.duplicates import NEAR_CORRELATION
from datasets.curation.thumbnails import SIDE, thumbnail
from datasets.sources import layouts
from datasets.store import index, manifest
from datasets.store.images import CARRIED
from datasets.store.packing import in_memory
from datasets.store.preprocess import Box, crop_box, decode
from datasets.transforms import TRANSFORMS, turn


def carry(name: str, source: str) -> Path:
    """Carry the masks of `source` over to the images of data set `name`; returns the file. Run again, it does nothing.

    Raises `DataError` where a set is not here or without its publisher's files, has no masks, or is not linked.
    """
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
    if path.is_file() and manifest.sha256(path) == log.get("masks_sha256"):
        print(f"{name}: the masks of {source} are in {path}; nothing to do")
        return path
    with data_folder.disk_errors(home), data_folder.locked(home):
        masks, links = _carry_all(home, source, table[["path", "label", "patient", "transform"]], log)
        channels = ",".join(catalog.get(source).mask_channels)
        attrs = {"name": name, "source": source, "channels": channels, "images_sha256": log["images_sha256"]}
        _write(path, masks, links, attrs)
        manifest.write_json(home / "log.json", log | {"masks_sha256": manifest.sha256(path)})
    linked, cut = links.slice.ne(""), pd.to_numeric(links.cut)
    lacking = int((~linked & links.label.ne(catalog.HEALTHY)).sum())
    print(
        f"{name}: {linked.sum():,} of {len(links):,} images have the mask of their slice of {source}, "
        f"{lacking:,} with a tumour have none. The crop cuts into {(cut > 0).sum()} tumours and leaves nothing of "
        f"{(cut == 1).sum()}."
    )
    return path


def carried(mask: np.ndarray, transform: str, shape: tuple[int, int], box: Box, size: int) -> tuple[np.ndarray, float]:
    """The mask (uint8 0/1 h×w×M) of a slice on an image that shows this slice, uint8 0/1 `size`×`size`×M; and the
    share of the tumour that the crop of the image has cut off.

    `transform`: what was done to the slice to give the image, a key of `TRANSFORMS`; `shape`: of the image as its
    publisher ships it; `box`: what is stored of it.
    """
    moved = turn(mask, transform)
    rows, columns = _places(box[:2], shape[0], len(moved), size), _places(box[2:], shape[1], moved.shape[1], size)
    kept = moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(moved[np.ix_(rows, columns)]), float(1 - kept.sum() / max(moved.sum(), 1))


def _places(ends: tuple[int, int], of: int, length: int, size: int) -> np.ndarray:
    """Where the middle of each of `size` stored pixels lies along an axis of the slice, which is `length` long.

    `ends`: of the stored box, in pixels of an image of `of`. Nearest neighbours once: resizing a mask twice would move
    its edge.
    """
    middles = ends[0] + (np.arange(size) + 0.5) / size * (ends[1] - ends[0])
    return np.clip((middles / of * length).astype(int), 0, length - 1)


def _carry_all(home: Path, source: str, table: pd.DataFrame, log: dict) -> tuple[np.ndarray, pd.DataFrame]:
    """Masks N×S×S×M, and a row an image: path, label, slice ("" where it shows none), and how well it fits."""
    facts, known, size = catalog.get(source), index.read_manifest(source), log["size"]
    masks = np.zeros((len(table), size, size, len(facts.mask_channels)), np.uint8)
    links = table.assign(slice="", correlation="", cut="")
    linked = table[table["transform"].ne("")]
    with tqdm(total=len(linked), desc="carrying masks over", unit=" images", disable=None) as progress:
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
                masks[row], cut = carried(slices[best].mask, transform, image.shape, box, size)
                links.loc[row, ["slice", "correlation", "cut"]] = files[best], f"{alike[best]:.4f}", f"{cut:.4f}"
    return masks, links


def _write(path: Path, masks: np.ndarray, links: pd.DataFrame, attrs: dict[str, str]) -> None:
    """Write the masks and their links, which appear when both are whole; where that fails, nothing is left of them."""
    partial = {place: place.with_name(f".{place.name}.partial") for place in (path.with_suffix(".csv"), path)}
    try:
        partial[path].write_bytes(in_memory({"mask": masks, "linked": links.slice.ne("").to_numpy(np.uint8)}, attrs))
        links.to_csv(partial[path.with_suffix(".csv")], index=False)
        path.unlink(missing_ok=True)  # the masks of one time never lie beside the links of another
        for place, written in partial.items():
            written.replace(place)
    finally:
        for left in partial.values():
            left.unlink(missing_ok=True)
