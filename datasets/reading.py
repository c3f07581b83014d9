"""Reads files that may be damaged or hostile: whatever is wrong with one becomes one clear line, and no traceback."""

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.catalog import DataError


@contextmanager
def reading(path: Path | str, remedy: str = "", what: str = "cannot be read") -> Iterator[None]:
    """Turn what reading `path` raises into a `DataError` of one line: the file, what is wrong, what to do.

    All kinds of errors, since a library raises what a damaged file happens to make it raise (`KeyError`, `TypeError`,
    `OverflowError`, `MemoryError`, …): keep the block to reading alone. A `DataError` passes as it is. `path` may be
    the name alone where its folder says nothing to the reader.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise _fault(path, f"{what} ({one_line(error)})", remedy) from error


# Threads that are in `quiet`, and where stderr led before the first of them.
_inside, _kept, _lock = 0, -1, threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what libraries in C (libtiff, gdcm) print of a file: it gets one line of ours, or an answer. Of several
    threads at once the first takes stderr away, and the last gives it back."""
    global _inside, _kept
    if sys.__stderr__ is None:  # closed, and its number may be that of a file
        yield
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            _kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                os.dup2(_kept, 2)
                os.close(_kept)


def _fault(path: Path | str, what: str, remedy: str) -> DataError:
    return DataError(f"{path}: {what}; {remedy}" if remedy else f"{path}: {what}")


def one_line(error: BaseException) -> str:
    """The first line of an error's text, short and printable, or the name of its class where it has none.

    Where that ends in a colon the reason follows in the second line, which is taken.
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return error.strerror  # without the path, which the message names already
    text = str(error).strip() or type(error).__name__
    if isinstance(error, KeyError):
        text = f"{text} is missing"
    line, *more = text.splitlines()
    line = more[0].strip() if more and line.rstrip().endswith(":") else line
    return "".join(c if c.isprintable() else " " for c in line)[:120].strip()


def read_json(path: Path, remedy: str = "", needs: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a file; `DataError` where it is none, lacks one of `needs`, or is nested too deep."""
    with reading(path, remedy, "not readable as JSON"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise _fault(path, f"holds a {type(content).__name__}, not a JSON object", remedy)
    if missing := [name for name in needs if name not in content]:
        raise _fault(path, f"'{missing[0]}' is missing", remedy)
    return content


def read_table(path: Path, remedy: str = "", needs: Iterable[str] = (), **how: Any) -> pd.DataFrame:
    """The table in a CSV file (also compressed); `DataError` where it is none or lacks one of the columns `needs`.

    `how` is passed to `pandas.read_csv`; by default all values are text, "" where nothing stands.
    """
    with reading(path, remedy, "not readable as a table"):
        table = pd.read_csv(path, **(how or {"dtype": str, "keep_default_na": False}))
        if not isinstance(table.index, pd.RangeIndex):  # pandas would take the first values for names of rows
            raise ValueError("a row has more values than the first line")
    if missing := [name for name in needs if name not in table]:
        raise _fault(path, f"its column '{missing[0]}' is missing", remedy)
    return table
