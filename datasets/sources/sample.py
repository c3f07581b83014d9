"""`Sample`, the entry that a layout lists, and `BrokenArchive`, the error where an archive is at fault."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from datasets.catalog import DataError


class BrokenArchive(DataError):
    """The archive itself is at fault: a fetched copy is not worth keeping."""


@dataclass(frozen=True)
class Sample:
    """One image of `raw/`, or one patient's folder of volumes: path there, label ("" where only the file holds it)
    and published split, and what else a table says of it, for its manifest row.
    """

    path: str
    label: str
    split: str
    facts: Mapping[str, str] = field(default_factory=dict)
