"""One publisher a file, and what they share: `Sample`, an image that a layout lists, and the files of a folder."""

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from datasets.catalog import DataError


@dataclass(frozen=True)
class Sample:
    """One image of `raw/`, or one patient's folder of volumes: path there, label ("" where only the file holds it)
    and published split, and what else a table says of it, for its manifest row.
    """

    path: str
    label: str = ""
    split: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def files_below(folder: Path) -> list[Path]:
    """All files in `folder` and in the folders below it, sorted; nothing is passed over in silence.

    Links to files and folders are followed, but for those to a folder that they lie in, which would never end.  Raises
    `DataError` for a link that leads nowhere (unless it is hidden) or a name that no text file can hold, and `OSError`
    for a folder that may not be read.
    """
    found = sorted(walk(folder))
    for path in found:
        inside = path.relative_to(folder)
        require_utf8(inside, f"{folder}: holds ")
        if path.is_symlink() and not path.exists() and not any(part.startswith(".") for part in inside.parts):
            raise DataError(f"{path}: a link that leads nowhere; remove it, or bring back the file that it names")
    return [path for path in found if path.is_file()]


def walk(folder: Path, above: Set[Path] = frozenset()) -> Iterator[Path]:
    """What lies below `folder` and is no folder, as `files_below` finds it; `above`: the real places of `folder` and of
    what it lies in, where they are known."""
    place = Path(os.path.realpath(folder))
    above = above or {place, *place.parents}
    for item in folder.iterdir():
        real = Path(os.path.realpath(item)) if item.is_dir() else None
        if real is None:
            yield item
        elif real not in above:
            yield from walk(item, above | {real})


def require_utf8(path: Path, where: str = "") -> None:
    """Raise `DataError` for a name that is not UTF-8, as archives made on Windows may leave: no table can name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}{str(path)!r}, a name that is not UTF-8; rename it, and run again") from error
