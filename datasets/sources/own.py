"""Reads a reader's own images: a folder with `samples.csv`, a row for each image, its mask and its patient.

`table.py` reads the table. Masks have one channel, 0 and 1 or 0 and 255.
"""

import csv
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.catalog import DataError, Dataset
from datasets.sources import table
from datasets.sources.sample import Sample
from datasets.store.manifest import sha256
from datasets.store.preprocess import RawImage, decode, examine

TABLE = "samples.csv"
REQUIRED = ("image", "mask", "patient")
LABEL = "unlabelled"


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of `folder`/samples.csv; raises `DataError` as `table.read`."""
    return table.read(folder / TABLE, folder, REQUIRED)


def files(rows: list[dict[str, str]]) -> list[str]:
    """Images and masks that rows name, each once."""
    return list(dict.fromkeys(row[name] for row in rows for name in table.FILES if name in row))


def source_of(folder: Path) -> dict[str, Any]:
    """Name, bytes and sha256 of what the table in `folder` names, table included."""
    paths = [folder / TABLE, *(folder / name for name in files(read_table(folder)))]
    digest = hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()
    return {"name": folder.name, "bytes": sum(path.stat().st_size for path in paths), "sha256": digest}


def copy(folder: Path, raw: Path, progress: Callable[[int], Any]) -> None:
    """Copy what the table names, and the table as it was understood, from `folder` into the new folder `raw`."""
    rows = read_table(folder)
    for name in files(rows):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, raw / name)
        progress(1)
    with (raw / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def facts(dataset: Dataset, raw: Path, channels: Sequence[str] = ()) -> Dataset:
    """What the catalogue cannot know of `own`: its classes, the channels that are kept, whether there are masks."""
    rows = read_table(raw)
    classes = tuple(sorted({row.get("label", LABEL) for row in rows}))
    masks = dataset.mask_channels if "mask" in rows[0] else ()
    return replace(dataset, classes=classes, channels=tuple(channels) or dataset.channels, mask_channels=masks)


@cache
def _by_image(raw: Path, changed: int) -> dict[str, dict[str, str]]:
    """Image → row; `changed` is the table's time, since the same path may hold another table later."""
    return {row["image"]: row for row in read_table(raw)}


def target(dataset: Dataset, member: str) -> str | None:
    """Nothing: a folder is copied, no archive is unpacked."""
    return None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All images of the table, in its order."""
    return [Sample(row["image"], row.get("label", LABEL), "") for row in read_table(raw)]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """Image `path` with its mask; raises `DataError` with the reason where they do not fit."""
    row = _by_image(raw, (raw / TABLE).stat().st_mtime_ns)[path]
    channels = len(dataset.channels)
    image, remarks = examine((raw / row["image"]).read_bytes(), channels, look_for_colour=channels == 1)
    mask = _mask(raw, row["mask"], image.shape[:2])
    known = {"patient": row["patient"], "mask": row["mask"], "mask_sha256": sha256(raw / row["mask"])}
    return [RawImage(image, mask, known, remarks)]


def _mask(raw: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A mask H×W×1 of 0 and 1 that fits an image."""
    try:
        mask = decode((raw / name).read_bytes())
    except DataError as error:
        raise DataError(f"mask {name}: {error}") from error
    if mask.shape != shape:
        raise DataError(f"image {shape} and mask {name} {mask.shape} should have one shape")
    values = np.unique(mask)
    if not set(values.tolist()) <= {0, 255} and not set(values.tolist()) <= {0, 1}:
        raise DataError(f"mask {name} holds {values[:5].tolist()}; 0 and 1, or 0 and 255, are taken (PNG, no JPEG)")
    return (mask > 0).astype(np.uint8)[..., None]
