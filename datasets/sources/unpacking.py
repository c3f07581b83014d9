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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from datasets.catalog import CATALOG, Dataset
from datasets.reading import one_line
from datasets.sources.layouts import target
from datasets.sources.sample import BrokenArchive
from datasets.sources.walking import files_below
from datasets.store import manifest

MIB = 2**20
ENCRYPTED = 1  # the bit of a member's flags
REFUSED = "nothing was unpacked; take the archive from its publisher"
INNER_ZIP = re.compile(r"brainTumorDataPublic_[\d-]+\.zip$")
# What the zip module makes of an archive that is no archive; what the disk refuses is not among it.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, LookupError)
DAMAGE += (struct.error, OverflowError)


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
            elif (raw / path).exists():
                if content.read() == (raw / path).read_bytes():  # some publishers ship a folder twice
                    left_out.append(member)
                    continue
                raise BrokenArchive(
                    f"{archive}: holds {path} twice, with other content; take {dataset.archive} from {dataset.url}"
                )
            else:
                (raw / path).parent.mkdir(parents=True, exist_ok=True)
                with (raw / path).open("wb") as file:
                    shutil.copyfileobj(content, file, MIB)
                if progress:
                    progress(1)
    return left_out


def content_bytes(archive: Path) -> int:
    """Bytes that `archive` declares to hold, unpacked; `BrokenArchive` where it is no whole zip archive."""
    if archive.is_dir():
        return sum(path.stat().st_size for path in _files(archive).values())
    with _whole(archive), zipfile.ZipFile(archive) as source:
        return sum(member.file_size for member in source.infolist())


def source_of(dataset: Dataset, archive: Path) -> dict[str, Any]:
    """Name, bytes and sha256 of an archive; of a folder, sha256 of the paths and contents that matter to `dataset`."""
    if not archive.is_dir():
        return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": manifest.sha256(archive)}
    kept = {name: path for name, path in _files(archive).items() if _belongs(dataset, name)}
    parts = [f"{target(dataset, name) or name} {manifest.sha256(path)}\n" for name, path in kept.items()]
    digest = hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()
    return {"name": archive.name, "bytes": sum(path.stat().st_size for path in kept.values()), "sha256": digest}


def _files(folder: Path) -> dict[str, Path]:
    """Path in the folder → file, of all files of a folder, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in files_below(folder)}


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:  # Deflate64, as Windows packs what is larger than 2 GB
        raise BrokenArchive(
            f"{archive}: packed in a way that is not read here ({one_line(error)}); unpack it and pass the folder: "
            "--archive FOLDER"
        ) from error
    except DAMAGE as error:
        raise BrokenArchive(f"{archive}: not a whole zip archive ({one_line(error)}); download it again") from error
    except OSError as error:
        if error.errno not in (errno.EINVAL, None):  # a place before the beginning, which an archive names; bzip2's
            raise
        raise BrokenArchive(f"{archive}: not a whole zip archive ({one_line(error)}); download it again") from error


def _members(dataset: Dataset, archive: Path, spill: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of `archive`, then of the zips inside it, by way of the file `spill`."""
    if archive.is_dir():
        yield from _members_of_folder(dataset, archive)
        return
    with zipfile.ZipFile(archive) as outer:
        members = check_members(archive, outer.infolist())
        parts = [m for m in members if _is_part(dataset, m.filename)]
        if not parts and not any(target(dataset, m.filename) for m in members):
            raise BrokenArchive(_wrong_archive(dataset, archive, [m.filename for m in members]))
        yield from _contents(outer, [m for m in members if m not in parts])
        for part in parts:
            with outer.open(part) as content, spill.open("wb") as file:
                shutil.copyfileobj(content, file, MIB)  # within the outer zip it cannot be read at random places
            with zipfile.ZipFile(spill) as inner:
                yield from _contents(inner, check_members(archive / part.filename, inner.infolist()))
            spill.unlink()


def _members_of_folder(dataset: Dataset, folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    files = _files(folder)
    if not any(_belongs(dataset, name) for name in files):
        raise BrokenArchive(_wrong_archive(dataset, folder, list(files)))
    for name, path in files.items():
        if _is_part(dataset, name):
            with zipfile.ZipFile(path) as inner:
                yield from _contents(inner, check_members(path, inner.infolist()))
        else:
            with path.open("rb") as content:
                yield name, content


def _contents(source: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, IO[bytes]]]:
    for member in members:
        with source.open(member) as content:  # gives no more than the declared size, and checks the CRC
            yield member.filename, content


def check_members(archive: Path, members: Iterable[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files among an archive's `members`; `BrokenArchive` if a name is unsafe, the content huge or encrypted.

    Old programs on Windows write backslashes between folders: they become slashes in `filename`.
    """
    members = list(members)
    for member in members:
        member.filename = member.filename.replace("\\", "/")
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        parts = name.split("/")
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise BrokenArchive(f"{archive}: '{name}' would be written outside its folder; {REFUSED}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BrokenArchive(f"{archive}: '{name}' is a link or device, not a file; {REFUSED}")
        if member.flag_bits & ENCRYPTED:
            raise BrokenArchive(
                f"{archive}: '{name}' is encrypted; unpack it with its password and pass the folder: --archive FOLDER"
            )
    packed, content = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    if content > max(64 * MIB, 100 * packed):
        raise BrokenArchive(f"{archive}: {packed} bytes claim to hold {content} (a zip bomb?); {REFUSED}")
    return [member for member in members if not member.is_dir()]


def _wrong_archive(dataset: Dataset, archive: Path, names: list[str]) -> str:
    others = [d for d in CATALOG.values() if d.layout != "generated" and any(_belongs(d, name) for name in names)]
    if others:
        command = f"python datasets/download.py {others[0].name} --archive {archive}"
        return f"{archive}: this is not {dataset.name}, it looks like {others[0].name}. For that: {command}"
    found = ", ".join(names[:2]) or "nothing"
    return f"{archive}: this is not {dataset.name} (it holds {found}); take {dataset.archive} from {dataset.url}"


def _belongs(dataset: Dataset, member: str) -> bool:
    return bool(target(dataset, member)) or _is_part(dataset, member)


def _is_part(dataset: Dataset, member: str) -> bool:
    """Whether a member is a zip archive of images in turn."""
    return dataset.layout == "matlab" and bool(INNER_ZIP.search(member))
