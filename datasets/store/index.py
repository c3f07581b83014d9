"""Reads the manifest of a data set and its committed split table as data frames, and fingerprints the data."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from datasets import catalog, hdf5
from datasets.catalog import DataError
from datasets.reading import read_json, read_table, reading
from datasets.store.manifest import COLUMNS, sha256

FILES = ("manifest.csv", "images.h5")
GROUPS = "groups.csv"  # beside the images of `own`
SPLITS = catalog.REPO / "datasets" / "splits"


def require(name: str) -> Path:
    """Folder of data set `name`; raises `DataError` with the command that brings it when it is not there."""
    folder = catalog.dataset_dir(name)
    if not all((folder / file).is_file() for file in FILES):
        raise DataError(f"{folder}: the data set '{name}' is not here yet; {catalog.get(name).bring}")
    return folder


def check_command(name: str) -> str:
    """What to do where a file of data set `name` cannot be read."""
    return f"run: python datasets/download.py {name} --check"


def read_manifest(name: str, home: Path | None = None) -> pd.DataFrame:
    """Manifest of data set `name`: a row an image, in the order of the store; unknown values are "". `home`: where it
    lies while the set is being made."""
    path = (home or require(name)) / "manifest.csv"
    if home is None:
        _require_vouched(path)
    table = read_table(path, check_command(name), needs=COLUMNS)
    with reading(path, check_command(name), "has values that are no numbers"):
        return table.astype(dict.fromkeys(("bytes", "width", "height"), int))


def _require_vouched(path: Path) -> None:
    """Raise `DataError` where the `log.json` beside a file was written for other bytes."""
    try:
        log = read_json(path.with_name("log.json")) if path.with_name("log.json").is_file() else {}
    except DataError:
        return  # `--check` says so
    digest = file_digest(path)
    if log.get(f"{path.stem}_sha256", digest) != digest:
        raise DataError(
            f"{path}: has other bytes than were written, by log.json beside it; {check_command(path.parent.name)}"
        )


def turns(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """How the publisher turned each image, by the committed split table or as planted in the phantom: a key of
    `transforms.TRANSFORMS`, "upright" where unknown. Raises `DataError` for a set without such a table.
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
    Raises `DataError` where an image of the manifest is missing from it, or the set is a part of the published one.
    """
    path, remedy = SPLITS / f"{name}.csv", ""
    if catalog.get(name).layout == "own":
        path, remedy = catalog.dataset_dir(name) / GROUPS, f"run: python datasets/download.py {name}"
    elif not path.is_file():
        return None
    refuse_part(name, manifest, path)
    table = read_table(path, remedy, needs=["path", "group"]).set_index("path")
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
    """Which committed groups and folds data set `name` has, 12 hexadecimal digits ("" where no table is committed):
    results by patient can be compared only where these agree."""
    path = SPLITS / f"{name}.csv"
    columns = ["path", "group", "fold"]
    if not path.is_file():
        return ""
    return short_digest(read_table(path, needs=columns).sort_values("path")[columns].to_csv(index=False).encode())


def read_findings(name: str, manifest: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Whether each of some rows shows each of `labels.classes_of(name, "findings")`, uint8 0/1 N×K. The manifest's
    labels name them; of sets with masks, a finding is a mask that is not empty."""
    facts = catalog.get(name)
    if facts.findings:
        named = manifest.label.iloc[rows].str.split("|")
        return np.stack([named.map(lambda shown, f=f: f in shown).to_numpy(np.uint8) for f in facts.findings], axis=1)
    with hdf5.opened(require(name) / "images.h5", check_command(name)) as store:
        masks = hdf5.array(store, "mask", most=None)
        found = [masks[int(row)].any(axis=(0, 1)) for row in rows]
    return np.array(found, np.uint8).reshape(len(rows), len(facts.mask_channels))


def strata(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """By what folds are stratified: the label, and where it names several findings, the rarest of them."""
    if not catalog.get(name).findings:
        return manifest.label.to_numpy()
    shown = manifest.label.str.split("|")
    often = shown.explode().value_counts()
    return np.array([min(names, key=lambda finding: (often[finding], finding)) for names in shown])


def packed_by(name: str) -> tuple[str, int]:
    """Crop rule and side in pixels that the images of data set `name` lie on disk with; they need not be its usual."""
    with hdf5.opened(require(name) / "images.h5", check_command(name)) as store:
        return str(store.attrs.get("crop", catalog.get(name).crop)), int(store["image"].shape[1])


def same_crop(name: str, other: str) -> None:
    """Raise `DataError` where two packed sets are cropped by different rules: a model of one would see other frames."""
    crop, its = packed_by(name)[0], packed_by(other)[0]
    if crop != its:
        raise DataError(
            f"{require(other)}: '{other}' is cropped by '{its}' and '{name}' by '{crop}': a model would see "
            f"other frames than it was trained on. Run: python datasets/download.py {other} --crop {crop}"
        )


def fingerprint(name: str) -> dict[str, str | int]:
    """Identifies the data of a run: number of images, and SHA-256 of the manifest and of the packed images.
    Raises `DataError` where they are not those that `log.json` beside them was written for."""
    folder, images = require(name), len(read_manifest(name))
    _require_vouched(folder / "images.h5")
    return {"images": images} | {file: file_digest(folder / file) for file in FILES}


_digests: dict[tuple, str] = {}  # of a path and its stamp


def file_digest(path: Path) -> str:
    """SHA-256 of a file of a store, in hexadecimal; worked out once a process as long as it stays the same file."""
    known = path, stamp(path)
    if known not in _digests:
        _digests[known] = sha256(path)
    return _digests[known]


def stamp(path: Path) -> tuple[int, int, int]:
    """Which file lies at `path` now: one that is written or replaced has another stamp."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def short_digest(content: bytes) -> str:
    """12 hexadecimal digits of the SHA-256 of `content`, to tell versions of it apart."""
    return hashlib.sha256(content).hexdigest()[:12]
