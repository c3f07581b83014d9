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

import csv
import difflib
import io
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.catalog import DataError, lookup

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


def read(table: Path, folder: Path, columns: Mapping[str, str] | None = None) -> tuple[list[dict[str, str]], list[str]]:
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
        raise DataError(f"{table}: not there; write a row an image: image,mask,patient")
    lines = _lines(table, _text(table))
    header = [name.strip().casefold() for name in next(lines, (0, []))[1]]
    places = _places(table, header, columns or {})
    rows, seen = [], {}
    for line, values in lines:
        where = f"{table}, line {line}"
        if len(values) != len(header):
            raise DataError(f"{where}: {len(values)} values, but the first line has {len(header)}")
        row = {name: values[place] for name, place in places.items()}
        for name, value in row.items():
            if not value.strip():
                raise DataError(f"{where}: no {name}")
        row |= {name: located(folder, row[name].strip(), where) for name in FILES if name in row}
        if row["image"] in seen:
            raise DataError(f"{where}: '{row['image']}' stands in the table twice, first in line {seen[row['image']]}")
        seen[row["image"]] = line
        rows.append(row)
    if not rows:
        raise DataError(f"{table}: no image follows its first line")
    return rows, [name for place, name in enumerate(header) if name and place not in places.values()]


def _places(table: Path, header: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Name of `COLUMNS` → place in the first line of a table."""
    for name in columns:
        lookup(COLUMNS, name, "column")
    if columns.get("image") == "":
        raise DataError(f"{table}: the column image is needed; name it with --columns image=NAME")
    wanted = {name: columns.get(name, name).strip().casefold() for name in COLUMNS}
    names = f"it names {', '.join(filter(None, header)) or 'nothing'}"
    if doubled := sorted(name for name in filter(None, wanted.values()) if header.count(name) > 1):
        raise DataError(f"{table}: its first line names {', '.join(doubled)} twice")
    for name, its in wanted.items():
        if its and its not in header and (name in columns or name == "image"):
            hint = "" if name in columns else "; say which column it is: --columns image=NAME"
            raise DataError(f"{table}: its first line has no '{its}', {names}{hint}")
    for name, its in wanted.items():
        unused = [] if its in header or not its else [other for other in header if other not in wanted.values()]
        if near := next((other for other in unused if _may_be(other, name)), ""):
            raise DataError(
                f"{table}: its first line has no '{name}', but '{near}': say --columns {name}={near} if it is that, "
                f"--columns {name}= if it is not"
            )
    return {name: header.index(its) for name, its in wanted.items() if its in header and its}


def _may_be(found: str, name: str) -> bool:
    """Whether a column of a table may be the one that is called `name` here."""
    nearly = difflib.get_close_matches(found, [name], cutoff=0.75)
    return bool(nearly) or name in found or found in COLUMNS[name]


def _text(table: Path) -> str:
    content = table.read_bytes()
    try:
        return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not a text file in UTF-8 ({error}); save it as 'CSV UTF-8'") from error


def _lines(table: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that is not empty."""
    first = text.lstrip().partition("\n")[0].strip()
    skipped = 0
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel's own line
        separator, skipped = first[4], 1
        text = text.lstrip().partition("\n")[2]
    else:
        separator = max(SEPARATORS, key=first.count)  # the first of them where there is none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num + skipped, values
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num + skipped}: not a table ({error})") from error


def located(folder: Path, text: str, where: str) -> str:
    """Path in `folder` of the file or folder that a table names, backslashes and composed letters as they come."""
    path = PurePosixPath(text)
    if not (folder / path).exists() and "\\" in text:
        path = PurePosixPath(*PureWindowsPath(text).parts)
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{where}: '{text}' should lie in the folder {folder}")
    for form in ("NFC", "NFD"):  # macOS decomposes letters in names
        if not (folder / path).exists() and (folder / unicodedata.normalize(form, str(path))).exists():
            path = PurePosixPath(unicodedata.normalize(form, str(path)))
    if (folder / path).exists():
        return str(path)
    near = _nearest(folder, path)
    raise DataError(f"{where}: {folder / path} does not exist{f'; did you mean {near!r}?' if near else ''}")


def _nearest(folder: Path, path: PurePosixPath) -> str:
    """The file beside a missing one whose name is most like its own: another suffix, or capitals."""
    beside = folder / path.parent
    names: Mapping[str, str] = {f.name.lower(): f.name for f in beside.iterdir()} if beside.is_dir() else {}
    found = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.8)
    return str(path.parent / names[found[0]]) if found else ""
