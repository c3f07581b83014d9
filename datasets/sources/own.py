"""Reads a reader's own images, as `given.py` lists them: 2-D files, NIfTI volumes and DICOM files, with masks or not.

Masks have one channel, 0 and 1 or 0 and 255. In `raw/` lies what was listed, beside the list, `samples.csv`.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.catalog import DataError, Dataset
from datasets.facts import OWN_TABLE
from datasets.sources import volumes
from datasets.sources.given import Given
from datasets.sources.sample import Sample
from datasets.store.manifest import read_rows, sha256
from datasets.store.preprocess import RawImage, decode, examine

LABEL = "unlabelled"


def source_of(given: Given) -> dict[str, Any]:
    """Name, bytes and sha256 of what a reader brings: of the list, and of the files in it."""
    rows, _ = given.listing
    paths = [given.folder / name for name in given.files()]
    parts = [json.dumps(rows, sort_keys=True), *(sha256(path) for path in paths)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return {"name": given.path.name, "bytes": sum(path.stat().st_size for path in paths), "sha256": digest}


def copy(given: Given, raw: Path, progress: Callable[[int], Any]) -> list[str]:
    """Copy what is listed, and the list, into the new folder `raw`; returns the notes on the list."""
    rows, notes = given.listing
    for name in given.files():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.folder / name, raw / name)
        progress(1)
    with (raw / OWN_TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return notes


def facts(dataset: Dataset, raw: Path, channels: Sequence[str] = ()) -> Dataset:
    """What the catalogue cannot know of `own`: its classes, the channels that are kept, whether there are masks."""
    rows = read_rows(raw / OWN_TABLE)
    classes = tuple(sorted({row.get("label", LABEL) for row in rows}))
    masks = dataset.mask_channels if "mask" in rows[0] else ()
    return replace(dataset, classes=classes, channels=tuple(channels) or dataset.channels, mask_channels=masks)


def count(raw: Path) -> int:
    """Number of images in `raw`, slices of volumes counted."""
    paths = [raw / row["image"] for row in read_rows(raw / OWN_TABLE)]
    return sum(volumes.count(path) if _is_volume(path) else 1 for path in paths)


def _is_volume(path: Path) -> bool:
    return volumes.is_nifti(path) or volumes.is_dicom(path)


@cache
def _by_image(raw: Path, changed: int) -> dict[str, dict[str, str]]:
    """Image → row; `changed` is the list's time, since the same path may hold another list later."""
    return {row["image"]: row for row in read_rows(raw / OWN_TABLE)}


def target(dataset: Dataset, member: str) -> str | None:
    """Nothing: a folder is copied, no archive is unpacked."""
    return None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All files of the list, in its order."""
    return [Sample(row["image"], row.get("label", LABEL), row.get("split", "")) for row in read_rows(raw / OWN_TABLE)]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """The images of file `path` with their masks; slices of one grey value and without a mask are left out.

    Raises:
        DataError: with the reason, where the file cannot be read or its mask does not fit.
    """
    row = _by_image(raw, (raw / OWN_TABLE).stat().st_mtime_ns)[path]
    known = {"patient": row.get("patient", "")}
    if "mask" in row:
        known |= {"mask": row["mask"], "mask_sha256": sha256(raw / row["mask"])}
    if not _is_volume(raw / path):
        channels = len(dataset.channels)
        image, remarks = examine((raw / path).read_bytes(), channels, look_for_colour=channels == 1)
        mask = _masks(raw, row, image[None])[0] if "mask" in row else None
        return [RawImage(image, mask, known, remarks)]
    if len(dataset.channels) > 1:
        raise DataError(f"holds 1 channel, not {len(dataset.channels)}")
    planes = volumes.read(raw / path)
    masks = _masks(raw, row, planes) if "mask" in row else [None] * len(planes)
    if volumes.is_nifti(raw / path) or len(planes) > 1:
        known["patient"] = known["patient"] or path  # who it is, nobody says, but it is one
        places: list[dict] = [{"path": f"{path}/{z:03d}", "slice": z} for z in range(len(planes))]
    else:
        places = [{}]
    found = [
        RawImage(plane, mask, known | place)
        for plane, mask, place in zip(planes, masks, places, strict=True)
        if len(planes) == 1 or plane.min() < plane.max() or (mask is not None and mask.any())
    ]
    if not found:
        raise DataError("every slice of it is of one grey value")
    return found


def _masks(raw: Path, row: dict[str, str], images: np.ndarray) -> list[np.ndarray]:
    """The masks of a row, each H×W×1 of 0 and 1, that fit its images N×H×W[×C]."""
    name = row["mask"]
    try:
        if _is_volume(raw / name):
            masks = volumes.read_mask(raw / name, raw / row["image"])
        else:
            masks = decode((raw / name).read_bytes())[None]
    except DataError as error:
        raise DataError(f"mask {name}: {error}") from error
    if masks.shape != images.shape[:3]:
        one = masks.shape[0] == images.shape[0] == 1
        shapes = (images.shape[1:3], masks.shape[1:]) if one else (images.shape[:3], masks.shape)
        raise DataError(f"image {shapes[0]} and mask {name} {shapes[1]} should have one shape")
    values = np.unique(masks)
    if not set(values.tolist()) <= {0, 255} and not set(values.tolist()) <= {0, 1}:
        raise DataError(f"mask {name} holds {values[:5].tolist()}; 0 and 1, or 0 and 255, are taken (PNG, no JPEG)")
    return list((masks > 0).astype(np.uint8)[..., None])
