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
FIELDS = {"id": str, "task": str, "run": dict, "recipe": dict | None, "parameters": int, "trainable": int}
FIELDS |= {"data": dict, "training": dict | None, "published": dict | None, "metrics": dict, "per_class": dict}
FIELDS |= {"images": int, "groups": int}
INTERVAL = {"value", "low", "high"}


def read_record(path: Path) -> dict[str, Any]:
    """The record in a `metrics.json`.

    Raises:
        DataError: it cannot be read, lacks a field, is of another run than its folder says, or holds an interval that
            is none; the line names the file.
    """
    record = read_json(path, REMEDY, FIELDS)
    with reading(path, REMEDY, "not the record of a run"):
        for name, kind in FIELDS.items():
            _want(isinstance(record[name], kind) and not isinstance(record[name], bool), f"'{name}'")
        try:
            found = Run(**record["run"] | {"task": record["task"]}).id
        except DataError as error:  # it names the model or data set, not the file
            raise ValueError(error) from error
        _want(found == record["id"] == path.parent.name, f"it is of the run '{found}', not of that of its folder")
        _want("folds" in record["data"], "its data name no folds")
        for name in TASKS[record["task"]]:
            _want(name in record["metrics"], f"its metric '{name}' is missing")
        for name, entry in record["metrics"].items():
            _want(isinstance(entry, dict) and entry.keys() == INTERVAL, f"its metric '{name}' is no interval")
        _want(all(isinstance(entry, dict) for entry in record["per_class"].values()), "its classes")
        values = [entry.get(part) for _, entry in intervals(record) for part in INTERVAL]
        values += [record["training"][name] for name in ("epochs", "seconds")] if record["training"] else []
        for value in values:
            plain = value is None or (not isinstance(value, bool | str) and math.isfinite(value))
            _want(plain, f"{value!r} in place of a number")
    return record


def _want(fact: bool, what: str) -> None:
    if not fact:
        raise ValueError(what)


def intervals(content: object, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Every {value, low, high} in a record, however deep, and its name, for example outline.dice."""
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
            _want({"path", "group"} <= set(columns), "its first line names no path and group")


def read_history(path: Path) -> pd.DataFrame:
    """The epochs of a run, a row each."""
    table = read_table(path, REMEDY, ["epoch", "seconds"], dtype={"stage": str})
    with reading(path, REMEDY, "damaged"):
        for name in table.columns.drop("stage", errors="ignore"):
            _want(table[name].dtype.kind in "iuf", f"its column '{name}' holds other things than numbers")
        _want(table.epoch.tolist() == list(range(1, len(table) + 1)), "its epochs are not numbered from 1 on")
    return table


def read_predictions(path: Path) -> pd.DataFrame:
    """The test images of a run, a row each. A class may be called "None" or "NA": only an empty cell is missing."""
    how = {"dtype": {"group": str, "patient": str}, "keep_default_na": False, "na_values": [""]}
    return read_table(path, REMEDY, ["path", "group"], **how)
