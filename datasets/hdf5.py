"""Opens HDF5 files that others wrote: what leads out of a file, or claims a size it cannot have, is refused unread.

HDF5 lets a file point at other files (links, virtual data sets, external storage): any file that the reader may read
would become an image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from datasets.catalog import DataError
from datasets.reading import reading

MOST_BYTES = 2**28  # of one array that is read at once: a slice has well under a million pixels


@contextmanager
def opened(path: Path, remedy: str = "", what: str = "not a whole HDF5 file") -> Iterator[h5py.File]:
    """The HDF5 file at `path`, for reading; what goes wrong in the block is a `DataError` that names the file."""
    with reading(path, remedy, what), unlocked(path) as file:
        yield file


def unlocked(path: Path, mode: str = "r") -> h5py.File:
    """The HDF5 file at `path`, without a lock of the system: what is read is replaced as a whole and never changed,
    what is written lies in a folder that is locked already, and a disk may know no locks. Nor has it a cache: an epoch
    reads each image once.

    Raises `DataError` where a lock was asked for nevertheless, by the environment, and not given: nothing is damaged.
    """
    try:
        return h5py.File(path, mode, locking=False, rdcc_nbytes=0)
    except OSError as error:
        if "unable to lock file" not in str(error):
            raise
        raise DataError(
            f"{path}: not damaged, but locked by another program, or on a disk without locks (NFS and Lustre may have "
            "none). Set HDF5_USE_FILE_LOCKING=FALSE and run the same again"
        ) from error


def array(group: h5py.Group, path: str, most: int | None = MOST_BYTES) -> h5py.Dataset:
    """The array of numbers at `path` (names between slashes) below `group`, not read yet.

    Raises `KeyError` where it is not there, and `ValueError` where it leads out of the file, holds no numbers, or
    declares more bytes than `most` (None where it is not read at once); `opened` names the file.
    """
    for name in path.split("/"):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise KeyError(path)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"'{path}' is a link to elsewhere ({type(link).__name__}), which is not followed")
        group = group[name]
    if not isinstance(group, h5py.Dataset):
        raise ValueError(f"'{path}' is no array")
    if group.id.get_create_plist().get_external_count() or group.is_virtual:
        raise ValueError(f"'{path}' lies in other files, which are not read")
    if group.dtype.kind not in "biuf":
        raise ValueError(f"'{path}' holds {group.dtype}, not numbers")
    if most is not None and group.size * group.dtype.itemsize > most:
        raise ValueError(f"'{path}' claims {group.size * group.dtype.itemsize:,} bytes, more than a slice can have")
    return group


def read(group: h5py.Group, path: str) -> np.ndarray:
    """The values of the array at `path`, see `array`."""
    return array(group, path)[()]
