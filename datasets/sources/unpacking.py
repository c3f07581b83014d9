"""Unpacks an archive safely: whole, within its folder, and no larger than it says; or takes the folder it was in.

`layouts.py` says where each member goes.
"""

import errno
import hashlib
import lzma
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from datasets.catalog import CATALOG, BrokenArchive, Dataset
from datasets.reading import one_line
from datasets.sources import files_below
from datasets.sources.layouts import target
from datasets.store import manifest

MIB = 2**20
ENCRYPTED = 1  # the bit of a member's flags
REFUSED = "nothing was unpacked; take the archive from its publisher"
BY_HAND = "unpack it by hand and pass the folder: --archive FOLDER"
INNER_ZIP = re.compile(r"brainTumorDataPublic_[\d-]+\.zip$")
# What the zip module makes of an archive that is no archive; what the disk refuses is not among it.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, LookupError)
DAMAGE += (struct.error, OverflowError)
NO_PLACE = (errno.EINVAL, None)  # a place before the beginning, which an archive names; bzip2's


def unpack(dataset: Dataset, archive: Path, raw: Path, progress: Callable[[int], Any] | None = None) -> list[str]:
    """Unpack the images of `archive` into the new folder `raw`; return the members that were left out.

    A folder is taken like an archive: what its publisher packed, unpacked by hand, inner zips or not; it is left as it
    is.  Raises `BrokenArchive` for a damaged archive, another set's, and one that would write outside `raw` or
    unpack to far more than its own size.  `progress` is called with the number of files just written.
    """
    raw.mkdir(parents=True)
    left_out = []
    with _whole(archive):
        for member, content in _members(dataset, archive, raw.with_name("inner.zip")):
            path = target(dataset, member)
            if path is None:
                left_out.append(member)
            elif not (raw / path).exists():
                (raw / path).parent.mkdir(parents=True, exist_ok=True)
                with (raw / path).open("wb") as file:
                    shutil.copyfileobj(content, file, MIB)
                if progress:
                    progress(1)
            elif content.read() == (raw / path).read_bytes():  # some publishers ship a folder twice
                left_out.append(member)
            else:
                raise BrokenArchive(f"{archive}: holds {path} twice, with other content; {dataset.again}")
    return left_out


def content_bytes(archive: Path) -> int:
    """Bytes that `archive` declares to hold, unpacked; `BrokenArchive` where it is no whole zip archive."""
    if archive.is_dir():
        return sum(path.stat().st_size for path in files_below(archive))
    with _whole(archive), zipfile.ZipFile(archive) as source:
        return sum(member.file_size for member in source.infolist())


def source_of(dataset: Dataset, archive: Path) -> dict[str, Any]:
    """Name, bytes, sha256 and path of an archive; of a folder, sha256 of the paths and contents that matter."""
    size, digest = manifest.size, manifest.sha256
    if not archive.is_dir():
        return {"name": archive.name, "bytes": size(archive), "sha256": digest(archive), "path": str(archive)}
    kept = {name: path for name, path in _files(archive).items() if _belongs(dataset, name)}
    parts = sorted(f"{target(dataset, name) or name} {digest(path)}\n" for name, path in kept.items())
    whole = hashlib.sha256("".join(parts).encode()).hexdigest()
    return {"name": archive.name, "bytes": sum(map(size, kept.values())), "sha256": whole, "path": str(archive)}


def _files(folder: Path) -> dict[str, Path]:
    """Path in the folder → file, of all files of a folder, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in files_below(folder)}


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:  # Deflate64, as Windows packs what is larger than 2 GB
        raise BrokenArchive(f"{archive}: packed in an unknown way ({one_line(error)}); {BY_HAND}") from error
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_PLACE:
            raise
        raise BrokenArchive(f"{archive}: not a whole zip archive ({one_line(error)}); download it again") from error


def _members(dataset: Dataset, archive: Path, spill: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of `archive` and of the zips inside it, these by way of the file `spill`."""
    if archive.is_dir():
        files = _files(archive)
        _require_member(dataset, archive, list(files))
        for name, path in files.items():
            if _is_part(dataset, name):
                yield from _of_zip(path, path)
                continue
            with path.open("rb") as content:
                yield name, content
        return
    with zipfile.ZipFile(archive) as outer:
        members = checked_members(archive, outer)
        _require_member(dataset, archive, [member.filename for member in members])
        for member in members:
            with outer.open(member) as content:  # gives no more than the declared size, and checks the CRC
                if not _is_part(dataset, member.filename):
                    yield member.filename, content
                    continue
                with spill.open("wb") as file:
                    shutil.copyfileobj(content, file, MIB)  # within the outer zip it cannot be read at random places
            yield from _of_zip(spill, archive / member.filename)
            spill.unlink()


def _of_zip(path: Path, name: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as inner:
        for member in checked_members(name, inner):
            with inner.open(member) as content:
                yield member.filename, content


def checked_members(archive: Path, source: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive; `BrokenArchive` if a name is unsafe, the content huge or encrypted.

    Old programs on Windows write backslashes between folders: they become slashes in `filename`.
    """
    members = source.infolist()
    for member in members:
        member.filename = member.filename.replace("\\", "/")
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        parts = name.split("/")
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise BrokenArchive(f"{archive}: '{name}' would be written outside its folder; {REFUSED}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BrokenArchive(f"{archive}: '{name}' is a link or device, not a file; {REFUSED}")
        if member.flag_bits & ENCRYPTED:
            raise BrokenArchive(f"{archive}: '{name}' is encrypted; {BY_HAND}")
    packed, content = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    if content > max(64 * MIB, 100 * packed):
        raise BrokenArchive(f"{archive}: {packed} bytes claim to hold {content} (a zip bomb?); {REFUSED}")
    return [member for member in members if not member.is_dir()]


def _require_member(dataset: Dataset, archive: Path, names: list[str]) -> None:
    """Raise `BrokenArchive` unless one of the `names` in an archive is of `dataset`; it says of which set they look."""
    if any(_belongs(dataset, name) for name in names):
        return
    for other in CATALOG.values():
        if other.layout != "generated" and any(_belongs(other, name) for name in names):
            raise BrokenArchive(
                f"{archive}: this is not {dataset.name}, it looks like {other.name}. For that: "
                f"python datasets/download.py {other.name} --archive {archive}"
            )
    found = ", ".join(names[:2]) or "nothing"
    raise BrokenArchive(f"{archive}: this is not {dataset.name} (it holds {found}); {dataset.again}")


def _belongs(dataset: Dataset, member: str) -> bool:
    return bool(target(dataset, member)) or _is_part(dataset, member)


def _is_part(dataset: Dataset, member: str) -> bool:
    """Whether a member is a zip archive of images in turn."""
    return dataset.layout == "matlab" and bool(INNER_ZIP.search(member))
