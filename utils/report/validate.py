"""Reads a record and looks whether it and the files beside it are whole: a damaged one is named and left out."""

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.catalog import DataError
from datasets.reading import read_json, read_table, reading
from utils.run import TASKS, Run

METRICS, HISTORY = "metrics.json", "history.csv"
PREDICTIONS, VALIDATION = "predictions.csv.gz", "validation.csv.gz"
REMEDY = "bring it back from the repository, or run it again"
# What every record has, and of which type; tables and figures take it as given.
FIELDS = {
    "id": str,
    "task": str,
    "run": dict,
    "recipe": dict | None,
    "parameters": int,
    "data": dict,
    "training": dict | None,
    "published": dict | None,
    "metrics": dict,
    "per_class": dict,
    "images": int,
    "groups": int,
}
INTERVAL = {"value", "low", "high"}


def read_record(path: Path) -> dict[str, Any]:
    """The record in a `metrics.json`.

    Raises:
        DataError: it cannot be read, lacks a field, is of another run than its folder says, or holds an interval that
            is none; the line names the file.
    """
    record = read_json(path, REMEDY, FIELDS)
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise DataError(f"{path}: '{name}' is a {type(record[name]).__name__}; {REMEDY}")
    with reading(path, REMEDY, "its run is not one that this version knows"):
        try:
            found = Run(**record["run"] | {"task": record["task"]}).id
        except DataError as error:  # it names the model or data set, not the file
            raise ValueError(error) from error
    if not found == record["id"] == path.parent.name:
        raise DataError(f"{path}: is of the run '{found}', not of that of its folder; {REMEDY}")
    if missing := [name for name in TASKS[record["task"]] if name not in record["metrics"]]:
        raise DataError(f"{path}: its metric '{missing[0]}' is missing; {REMEDY}")
    with reading(path, REMEDY, "a number in it is none"):
        _check_numbers(record)
    return record


def _check_numbers(record: dict[str, Any]) -> None:
    """Raise an error where metrics or training hold something else than numbers, and intervals of them."""
    for entry in record["metrics"].values():
        if not isinstance(entry, dict) or entry.keys() != INTERVAL:
            raise ValueError("a metric has no value, low and high")
    for _, entry in intervals(record):
        _check_finite(entry["value"], *(entry[name] for name in INTERVAL & entry.keys()))
    for kind in record["per_class"].values():
        kind.items()
    if record["training"]:
        _check_finite(record["training"]["epochs"], record["training"]["seconds"])


def _check_finite(*values: object) -> None:
    for value in values:
        if value is not None and (isinstance(value, bool | str) or not math.isfinite(value)):
            raise ValueError(f"{value!r}")


def intervals(content: object, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Every {value, low, high} in a record, however deep, and its name, for example `outline.dice`."""
    if isinstance(content, dict) and "value" in content:
        yield prefix.rstrip("."), content
    elif isinstance(content, dict):
        for name, part in content.items():
            yield from intervals(part, f"{prefix}{name}.")


def check_files(folder: Path) -> None:
    """Raise `DataError` where the history or the predictions in `folder`, as far as they are there, are damaged."""
    if (folder / HISTORY).is_file():
        read_history(folder / HISTORY)
    for path in filter(Path.is_file, (folder / PREDICTIONS, folder / VALIDATION)):
        with reading(path, REMEDY, "damaged"):
            columns = gzip.decompress(path.read_bytes()).partition(b"\n")[0].decode().split(",")  # compares a checksum
        if not {"path", "group"} <= set(columns):
            raise DataError(f"{path}: its first line names no path and group; {REMEDY}")


def read_history(path: Path) -> pd.DataFrame:
    """The epochs of a run, a row each."""
    table = read_table(path, REMEDY, ["epoch", "seconds"], dtype={"stage": str})
    if wrong := [name for name in table.columns.drop("stage", errors="ignore") if table[name].dtype.kind not in "iuf"]:
        raise DataError(f"{path}: its column '{wrong[0]}' holds other things than numbers; {REMEDY}")
    if table.epoch.isna().any() or table.epoch.tolist() != list(range(1, len(table) + 1)):
        raise DataError(f"{path}: its epochs are not numbered from 1 on; {REMEDY}")
    return table


def read_predictions(path: Path) -> pd.DataFrame:
    """The test images of a run, a row each. A class may be called "None" or "NA": only an empty cell is missing."""
    how = {"dtype": {"group": str, "patient": str}, "keep_default_na": False, "na_values": [""]}
    return read_table(path, REMEDY, ["path", "group"], **how)
