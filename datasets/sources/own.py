"""Bring your own: a folder with `samples.csv`, a row an image, its mask and its patient. `layouts.py` calls this.

```
image,mask,patient
images/a1.png,masks/a1.png,anna
images/a2.png,masks/a2.png,anna
```
Paths are relative to the folder. Masks are one channel, 0 and 1 or 0 and 255.
"""

import hashlib
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datasets.catalog import DataError, Dataset
from datasets.sources.sample import Sample
from datasets.store.manifest import read_rows, sha256
from datasets.store.preprocess import RawImage, decode

TABLE = "samples.csv"
COLUMNS = ("image", "mask", "patient")
LABEL = "unlabelled"


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of `folder`/samples.csv.

    Raises:
        DataError: naming the file and line, for a missing table, column, value or file, an image named twice, and a
            path that leads out of the folder.
    """
    table = folder / TABLE
    if not table.is_file():
        raise DataError(f"{table}: not there; write a row an image: {','.join(COLUMNS)}")
    try:
        rows = read_rows(table)
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not a text file in UTF-8 ({error})") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise DataError(f"{table}: its first line should be {','.join(COLUMNS)}, and images should follow")
    seen = set()
    for line, row in enumerate(rows, start=2):
        for column in COLUMNS:
            if not row[column]:
                raise DataError(f"{table}, line {line}: no {column}")
        for column in ("image", "mask"):
            path = PurePosixPath(row[column])
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{table}, line {line}: '{path}' should lie in the folder of the table")
            if not (folder / path).is_file():
                raise DataError(f"{table}, line {line}: {folder / path} does not exist")
        if row["image"] in seen:
            raise DataError(f"{table}, line {line}: '{row['image']}' stands in the table twice")
        seen.add(row["image"])
    return rows


def source_of(folder: Path) -> dict[str, Any]:
    """Name, bytes and sha256 of what the table in `folder` names, table included."""
    files = [folder / TABLE, *(folder / row[column] for row in read_table(folder) for column in ("image", "mask"))]
    digest = hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()
    return {"name": folder.name, "bytes": sum(file.stat().st_size for file in files), "sha256": digest}


def copy(folder: Path, raw: Path, progress: Callable[[int], Any]) -> None:
    """Copy the table and what it names from `folder` into the new folder `raw`; yours is left as it is."""
    rows = read_table(folder)
    for name in [TABLE, *(row[column] for row in rows for column in ("image", "mask"))]:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, raw / name)
        progress(1)


@cache
def _by_image(raw: Path, changed: int) -> dict[str, dict[str, str]]:
    """Image → row; `changed` is the table's time, since the same path may hold another table later."""
    return {row["image"]: row for row in read_table(raw)}


def target(dataset: Dataset, member: str) -> str | None:
    """Nothing: a folder is copied, no archive is unpacked."""
    return None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All images of the table, in its order."""
    return [Sample(row["image"], LABEL, "") for row in read_table(raw)]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """Image `path` with its mask; raises `DataError` with the reason where they do not fit."""
    row = _by_image(raw, (raw / TABLE).stat().st_mtime_ns)[path]
    image, mask = decode(raw / row["image"]), decode(raw / row["mask"])
    if image.shape != mask.shape:
        raise DataError(f"image {image.shape} and mask {row['mask']} {mask.shape} should have one shape")
    values = np.unique(mask)
    if not set(values.tolist()) <= {0, 255} and not set(values.tolist()) <= {0, 1}:
        raise DataError(
            f"mask {row['mask']} holds {values[:5].tolist()}; 0 and 1, or 0 and 255, are taken (PNG, no JPEG)"
        )
    return [RawImage(image, (mask > 0).astype(np.uint8)[..., None], {"patient": row["patient"]})]
