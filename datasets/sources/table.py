"""A reader's own table: a CSV file with a row an image, as spreadsheets write it.

```
image,mask,patient
images/a1.png,masks/a1.png,anna
images/a2.png,masks/a2.png,anna
```
Paths are relative to a folder. A byte order mark, semicolons or tabs between the values, capitals in the first line and
backslashes in paths are understood; what is not is named with its line.
"""

import csv
import difflib
import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.catalog import DataError

COLUMNS = ("image", "mask", "patient", "label")
FILES = ("image", "mask")
SEPARATORS = ",;\t|"
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # what Excel calls "Unicode text"


def read(table: Path, folder: Path, required: Sequence[str] = ("image",)) -> list[dict[str, str]]:
    """The rows of `table`, the columns of `COLUMNS` that it has; image and mask are paths in `folder`.

    Raises:
        DataError: naming the file and line, for a table that is missing or no table, a missing column, value or file,
            an image named twice, and a path that leads out of the folder.
    """
    if not table.is_file():
        raise DataError(f"{table}: not there; write a row an image: {','.join(required)}")
    lines = _lines(table, _text(table))
    header = [name.strip().casefold() for name in next(lines, (0, []))[1]]
    if absent := [name for name in required if name not in header]:
        raise DataError(
            f"{table}: its first line should be {','.join(required)}; {', '.join(absent)} is not in it, it names "
            f"{', '.join(filter(None, header)) or 'nothing'}"
        )
    if doubled := sorted({name for name in header if name in COLUMNS and header.count(name) > 1}):
        raise DataError(f"{table}: its first line names {', '.join(doubled)} twice")
    rows, seen = [], {}
    for line, values in lines:
        where = f"{table}, line {line}"
        if len(values) != len(header):
            raise DataError(f"{where}: {len(values)} values, but the first line has {len(header)}")
        row = {name: value for name, value in zip(header, values, strict=True) if name in COLUMNS}
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
    return rows


def _text(table: Path) -> str:
    content = table.read_bytes()
    try:
        return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not a text file in UTF-8 ({error}); save it as 'CSV UTF-8'") from error


def _lines(table: Path, text: str):
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
    """Path in `folder` of the file that a table names, backslashes and composed letters as they come."""
    path = PurePosixPath(text)
    if not (folder / path).is_file() and "\\" in text:
        path = PurePosixPath(*PureWindowsPath(text).parts)
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{where}: '{text}' should lie in the folder {folder}")
    for form in ("NFC", "NFD"):  # macOS decomposes letters in names
        if not (folder / path).is_file() and (folder / unicodedata.normalize(form, str(path))).is_file():
            path = PurePosixPath(unicodedata.normalize(form, str(path)))
    if (folder / path).is_file():
        return str(path)
    near = _nearest(folder, path)
    raise DataError(f"{where}: {folder / path} does not exist{f'; did you mean {near!r}?' if near else ''}")


def _nearest(folder: Path, path: PurePosixPath) -> str:
    """The file beside a missing one whose name is most like its own: another suffix, or capitals."""
    beside = folder / path.parent
    names: Mapping[str, str] = {f.name.lower(): f.name for f in beside.iterdir()} if beside.is_dir() else {}
    found = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.8)
    return str(path.parent / names[found[0]]) if found else ""
