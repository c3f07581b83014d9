"""Reads the manifest of a data set and its committed split table as data frames, and fingerprints the data.

`images.py` reads the images, `splitting.py` decides which rows are trained on.
"""

import hashlib
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from datasets import catalog, hdf5
from datasets.catalog import DataError
from datasets.reading import read_json, read_table, reading
from datasets.store.manifest import COLUMNS

NUMBERS = ("bytes", "width", "height")
FILES = ("manifest.csv", "images.h5")


GROUPS = "groups.csv"  # beside the images of `own`
SPLITS = catalog.REPO / "datasets" / "splits"


def require(name: str) -> Path:
    """Folder of data set `name`; raises `DataError` with the command that brings it when it is not there."""
    folder = catalog.dataset_dir(name)
    if not (folder / "manifest.csv").is_file() or not (folder / "images.h5").is_file():
        raise DataError(f"{folder}: the data set '{name}' is not here yet. Run: python datasets/download.py {name}")
    return folder


def check_command(name: str) -> str:
    """What to do where a file of data set `name` cannot be read."""
    return f"run: python datasets/download.py {name} --check"


def read_manifest(name: str, home: Path | None = None) -> pd.DataFrame:
    """Manifest of data set `name`: a row an image, in the order of the store; unknown values are "".

    `home`: where it lies while the set is being made.
    """
    path = (home or require(name)) / "manifest.csv"
    check = check_command(name)
    if home is None:
        _vouched(path.parent, {path.name: _sha256(path, stamp(path))})
    table = read_table(path, check, needs=COLUMNS)
    with reading(path, check, "has values that are no numbers"):
        return table.astype({column: int for column in NUMBERS if column in table})


def _vouched(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise `DataError` where `log.json` in `folder` was written for files of other bytes: `digests` by name."""
    try:
        log = read_json(folder / "log.json") if (folder / "log.json").is_file() else {}
    except DataError:
        return  # `--check` says so
    for name, digest in digests.items():
        if log.get(f"{name.partition('.')[0]}_sha256", digest) != digest:
            raise DataError(
                f"{folder / name}: has other bytes than were written, by log.json beside it. "
                f"Run: python datasets/download.py {folder.name} --check"
            )


def turns(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """How the publisher turned each image, as far as known: a key of `transforms.TRANSFORMS`, "upright" where unknown.

    It follows from the committed split table (images linked to Cheng's slices), or was planted in the phantom.

    Raises:
        DataError: a set without such a table.
    """
    if "transposed" in manifest:
        return np.where(manifest.transposed.eq("1"), "transposed", "upright")
    table = read_splits(name, manifest)
    if table is None or "transform" not in table:
        raise DataError(f"{SPLITS / (name + '.csv')}: no split table says how the images of '{name}' were turned")
    return table["transform"].replace("", "upright").to_numpy()


def read_splits(name: str, manifest: pd.DataFrame) -> pd.DataFrame | None:
    """The split table in the manifest's order, or None where a set has none.

    It is the committed one, or for `own` the groups that were found when it was brought in, which have no folds yet.

    Raises:
        DataError: when an image of the manifest is missing from the table, or the set is a part of the published one.
    """
    path = SPLITS / f"{name}.csv"
    if catalog.get(name).layout == "own":
        path = catalog.dataset_dir(name) / GROUPS
        if not path.is_file():
            raise DataError(
                f"{path}: not there, an older version brought it in. Run: python datasets/download.py {name}"
            )
    if not path.is_file():
        return None
    refuse_part(name, manifest, path)
    table = read_table(path, needs=["path", "group"]).set_index("path")
    missing = manifest.path[~manifest.path.isin(table.index)]
    if len(missing):
        raise DataError(f"{path}: {len(missing)} images of '{name}' are not in it, first {missing.iloc[0]}.")
    return table.loc[manifest.path].reset_index()


def refuse_part(name: str, manifest: pd.DataFrame, table: Path) -> None:
    """Raise `DataError` where data set `name` was taken with `--partial`: the committed `table` is of the whole set."""
    if "partial" in manifest:
        raise DataError(
            f"{table}: it is of the whole set, and {manifest.partial.iloc[0]} images of '{name}' are here (--partial). "
            f"Bring the whole set: python datasets/download.py {name} --archive FILE --replace"
        )


@cache
def folds_digest(name: str) -> str:
    """Which committed groups and folds data set `name` has: 12 hexadecimal digits, "" where no table is committed.

    Results by patient can be compared only where these agree; tables mark runs on other folds.
    """
    path = SPLITS / f"{name}.csv"
    if not path.is_file():
        return ""
    table = read_table(path, needs=["path", "group", "fold"]).sort_values("path")
    return hashlib.sha256(table[["path", "group", "fold"]].to_csv(index=False).encode()).hexdigest()[:12]


def same_crop(name: str, other: str) -> None:
    """Raise `DataError` where two packed sets are cropped by different rules: a model of one would see other frames."""
    crops = [read_crop(one) for one in (name, other)]
    if crops[0] != crops[1]:
        raise DataError(
            f"{require(other)}: '{other}' is cropped by '{crops[1]}' and '{name}' by '{crops[0]}': a model would see "
            f"other frames than it was trained on. Run: python datasets/download.py {other} --crop {crops[0]}"
        )


def read_crop(name: str) -> str:
    """The rule of `facts.CROPS` by which data set `name` was packed."""
    with hdf5.opened(require(name) / "images.h5", check_command(name)) as store:
        return str(store.attrs.get("crop", "none"))


def fingerprint(name: str) -> dict[str, str | int]:
    """Identifies the data of a run: number of images, and SHA-256 of the manifest and of the packed images.

    Raises:
        DataError: the files are not those that `log.json` beside them was written for.
    """
    folder = require(name)
    with (folder / "manifest.csv").open("rb") as manifest:
        images = sum(1 for _ in manifest) - 1
    digests = {file: file_digest(folder / file) for file in FILES}
    _vouched(folder, digests)
    return {"images": images} | digests


def file_digest(path: Path) -> str:
    """SHA-256 of a file of a store, in hexadecimal; worked out once a process as long as it stays the same file."""
    return _sha256(path, stamp(path))


def stamp(path: Path) -> tuple[int, int, int]:
    """Which file lies at `path` now: one that is written or replaced has another stamp."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache
def _sha256(path: Path, stamp: tuple[int, int, int]) -> str:
    """SHA-256 of a file, worked out once a process for each `stamp`: a large store takes seconds."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_digest(content: bytes) -> str:
    """12 hexadecimal digits of the SHA-256 of `content`, to tell versions of it apart."""
    return hashlib.sha256(content).hexdigest()[:12]
