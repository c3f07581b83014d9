"""`Sample`, the entry that a layout lists, and `BrokenArchive`, the error where an archive is at fault."""

from dataclasses import dataclass

from datasets.catalog import DataError


class BrokenArchive(DataError):
    """The archive itself is at fault: a fetched copy is not worth keeping."""


@dataclass(frozen=True)
class Sample:
    """One image of `raw/`, or one patient's folder of volumes: path there, label ("" where only the file holds it)
    and published split.
    """

    path: str
    label: str
    split: str
