"""The working folder of a data set in the making: locked, cleaned after a failure, and published when complete."""

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datasets.catalog import DataError
from datasets.lock import Held, acquire
from datasets.sources.sample import BrokenArchive

RESUMABLE = ("download", "raw", "raw.json")  # what a later run takes up
ELSEWHERE = "set BRAIN_MRI_DATA to a folder on another disk"


def publish(work: Path, home: Path) -> None:
    """Put what `work` holds in place; a folder that is new appears at once, whole."""
    shutil.rmtree(work / "download", ignore_errors=True)
    if not home.exists():
        work.rename(home)
        return
    (home / "log.json").unlink(missing_ok=True)  # until the new one is in place nothing vouches for the files
    shutil.rmtree(home / "overlap", ignore_errors=True)  # of `own`: what other sets shared with what was here
    for name in ("masks.h5", "masks.csv"):  # carried over to the images that were here
        (home / name).unlink(missing_ok=True)
    if (work / "raw").exists():
        (home / "raw.json").unlink(missing_ok=True)  # nor for raw/
        shutil.rmtree(home / "raw", ignore_errors=True)
    for name in ("raw", "raw.json", "images.h5", "manifest.csv", "groups.csv", "log.json"):
        if (work / name).exists():
            (work / name).replace(home / name)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold `.NAME.lock` in the data root; `DataError` names the process that holds it already."""
    home.parent.mkdir(parents=True, exist_ok=True)
    path = home.with_name(f".{home.name}.lock")
    try:
        lock = acquire(path, f"prepares '{home.name}'")
    except Held as who:
        raise DataError(f"{path}: {who}; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def working_folder(work: Path) -> Iterator[None]:
    """Folder `work`, freed of leftovers before; after a failure only what can be taken up again is left."""
    work.mkdir(exist_ok=True)
    clean(work, keep=RESUMABLE)
    keep: Sequence[str] = ()
    try:
        yield
    except BrokenArchive:
        raise
    except Exception:
        keep = ("download",)
        raise
    except KeyboardInterrupt:
        keep = RESUMABLE
        raise
    finally:
        if work.exists():
            clean(work, keep)
        for folder in (work / "download", work):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def clean(folder: Path, keep: Sequence[str]) -> None:
    for item in folder.iterdir():
        if item.name not in keep:
            shutil.rmtree(item) if item.is_dir() else item.unlink()


@contextmanager
def disk_errors(home: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `DataError` with a remedy; what lies elsewhere than `home` was to be read."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename or home)
        ours = where.resolve().is_relative_to(home.parent)
        if ours:
            where = home if work_of(home).name in where.parts else where  # the reader knows no folder but that
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{where}: the disk is full; free some space or {ELSEWHERE}, then run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and ours:
            raise DataError(f"{where}: cannot be written ({error.strerror}); {ELSEWHERE}") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise DataError(
                f"{where}: cannot be read ({error.strerror}); give yourself the right to read it"
            ) from error
        raise DataError(f"{where}: {error.strerror or error}; mend that or {ELSEWHERE}") from error


def work_of(home: Path) -> Path:
    """The folder beside `home` in which it is made."""
    return home.with_name(f".{home.name}.partial")
