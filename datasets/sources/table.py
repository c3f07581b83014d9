"""A reader's own table: a CSV file with a row an image, as spreadsheets write it.

```
image,mask,patient,label
images/a1.png,masks/a1.png,anna,glioma
images/a2.png,masks/a2.png,anna,glioma
```
The column `image` is needed, the others are taken where they are. Paths are relative to a folder. A byte order mark,
semicolons or tabs between the values, capitals in the first line and backslashes in paths are understood; what is not
is named with its line.
"""

import difflib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from datasets.catalog import DataError, lookup
from datasets.reading import reading

# Column → names under which a table may hide it. They are not taken for it unasked, but asked about.
COLUMNS = {
    "image": ("file", "filename", "path", "slice", "scan"),
    "mask": ("segmentation", "seg", "annotation"),
    "patient": ("subject", "person", "case", "pid"),
    "label": ("class", "diagnosis", "target", "category", "finding", "tumor_type", "tumour_type"),
}
FILES = ("image", "mask")
SEPARATORS = ",;\t|"
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # what Excel calls "Unicode text"
A_ROW = "write a row an image: image,mask,patient"


def read(table: Path, folder: Path, columns: Mapping[str, str]) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of `table`, with those of `COLUMNS` that it has, and the names of its columns that are not used.

    Args:
        folder: image and mask are paths in it.
        columns: name of `COLUMNS` → name in the table where it is another, or "" where a column is not to be used.

    Raises:
        DataError: naming the file and line, for a table that is missing or no table, a missing column, value or file,
            an image named twice, a path that leads out of the folder, and a column that may be one of `COLUMNS` by
            another name.
    """
    if not table.is_file():
        raise DataError(f"{table}: not there; {A_ROW}")
    lines = _lines(table)
    header = [name.strip().casefold() for name in lines.iloc[0]] if len(lines) else []
    places = _places(table, header, columns)
    rows = lines.iloc[1:, list(places.values())].set_axis(list(places), axis=1)
    if rows.empty:
        raise DataError(f"{table}: no image follows its first line; {A_ROW}")
    for name, values in rows.items():
        if len(blank := rows.index[values.str.strip() == ""]):
            raise DataError(f"{table}, line {blank[0]}: no {name}; fill it in, or remove the line")
        if name in FILES:
            rows[name] = [located(folder, text.strip(), f"{table}, line {line}") for line, text in values.items()]
    if len(twice := rows.index[rows.image.duplicated()]):
        raise DataError(f"{table}, line {twice[0]}: '{rows.image[twice[0]]}' stands in the table twice; remove one")
    return rows.to_dict("records"), [n for place, n in enumerate(header) if n and place not in places.values()]


def _lines(table: Path) -> pd.DataFrame:
    """The lines of a table that are not empty, all text, under their numbers; the first of them is the header.

    The separator is that of `SEPARATORS` which the first line holds most of (pandas' own guess takes a letter where
    there is one column), unless Excel names it in a line of its own.
    """
    content = table.read_bytes()
    with reading(table, "save it as 'CSV UTF-8'", "not a text file in UTF-8"):
        text = content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
    body = text.lstrip("\r\n ")
    above = text[: len(text) - len(body)].count("\n")
    first, _, rest = body.partition("\n")
    separator = max(SEPARATORS, key=first.count)
    if said := re.fullmatch(r"sep=(.)\r?", first, re.IGNORECASE):
        separator, body, above = said[1], rest, above + 1
    how = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    with reading(table, "give each line as many values as the first has", "not a table"):
        lines = pd.read_csv(io.StringIO(body), sep=separator, **how)
    lines.index += above + 1
    return lines[lines.apply(lambda values: values.str.strip() != "").any(axis=1)]


def _places(table: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Name of `COLUMNS` → place in the first line of a table."""
    for name in columns:
        lookup(COLUMNS, name, "column")
    wanted = {name: columns.get(name, name).strip().casefold() for name in COLUMNS}
    places = {}
    for name, its in wanted.items():
        if its and header.count(its) > 1:
            raise DataError(f"{table}: its first line names {its} twice; rename one of both")
        if its and its in header:
            places[name] = header.index(its)
        elif name == "image" or columns.get(name):
            names = ", ".join(filter(None, header)) or "nothing"
            raise DataError(
                f"{table}: its first line has no '{its or name}', it names {names}; say which column it is: --columns "
                f"{name}=NAME"
            )
    for name, its in wanted.items():
        for other in header if its and name not in places else ():
            if other not in wanted.values() and _may_be(other, name):
                raise DataError(
                    f"{table}: its first line has no '{name}', but '{other}': say --columns {name}={other} if it is "
                    f"that, --columns {name}= if it is not"
                )
    return places


def _may_be(found: str, name: str) -> bool:
    """Whether a column of a table may be the one that is called `name` here."""
    return bool(difflib.get_close_matches(found, [name], cutoff=0.75)) or name in found or found in COLUMNS[name]


def located(folder: Path, text: str, where: str) -> str:
    """Path in `folder` of the file or folder that a table names, backslashes and composed letters as they come."""
    path = PurePosixPath(text)
    if "\\" in text and not (folder / path).exists():
        path = PurePosixPath(*PureWindowsPath(text).parts)
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{where}: '{text}' should lie in the folder {folder}")
    name = str(path)
    for spelt in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):  # macOS decomposes letters
        if (folder / spelt).exists():
            return spelt
    beside = folder / path.parent  # another suffix, or capitals
    names = {file.name.lower(): file.name for file in beside.iterdir()} if beside.is_dir() else {}
    near = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.8)
    hint = f"; did you mean '{path.parent / names[near[0]]}'?" if near else "; name a file that is there"
    raise DataError(f"{where}: {folder / path} does not exist{hint}")
