"""Unpacks an archive safely: whole, within its folder, and no larger than it says; or takes the folder it was in."""

import errno
import hashlib
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from datasets.catalog import CATALOG, BrokenArchive, DataError, Dataset
from datasets.reading import one_line
from datasets.sources import files_below
from datasets.sources.layouts import target
from datasets.store import manifest

MIB = 2**20
REFUSED = "nothing was unpacked; take the archive from its publisher"
BY_HAND = "unpack it by hand and pass the folder: --archive FOLDER"
AGAIN = f"download it again, or if it is packed in another way, {BY_HAND}"
INNER_ZIP = re.compile(r"brainTumorDataPublic_[\d-]+\.zip$")
NO_PLACE = (errno.EINVAL, None)  # a place before the beginning, which an archive names; bzip2's


def unpack(dataset: Dataset, archive: Path, raw: Path) -> list[str]:
    """Unpack the images of `archive` into the new folder `raw`; return the members that were left out.

    A folder is taken like an archive: what its publisher packed, unpacked by hand, inner zips or not; it is left as it
    is.  Raises `BrokenArchive` for a damaged archive, another set's, and one that would write outside `raw` or
    unpack to far more than its own size.
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
            elif content.read() == (raw / path).read_bytes():  # some publishers ship a folder twice
                left_out.append(member)
            else:
                raise BrokenArchive(f"{archive}: holds {path} twice, with other content; {dataset.again}")
    return left_out


def source_of(dataset: Dataset, archive: Path) -> dict[str, Any]:
    """Name, bytes, sha256 and path of an archive; of a folder, sha256 of the paths and contents that matter."""
    source = {"name": archive.name, "path": str(archive)}
    if not archive.is_dir():
        return source | {"bytes": manifest.size(archive), "sha256": manifest.sha256(archive)}
    kept = {name: path for name, path in _files(archive).items() if _belongs(dataset, name)}
    parts = sorted(f"{target(dataset, name) or name} {manifest.sha256(path)}\n" for name, path in kept.items())
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return source | {"bytes": sum(map(manifest.size, kept.values())), "sha256": digest}


def _files(folder: Path) -> dict[str, Path]:
    """Path in the folder → file, of all files of a folder, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in files_below(folder)}


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except NotImplementedError as error:  # Deflate64, as Windows packs what is larger than 2 GB
        raise BrokenArchive(f"{archive}: packed in an unknown way ({one_line(error)}); {BY_HAND}") from error
    except Exception as error:  # of all kinds, as in `reading`, but for what the disk refuses
        if isinstance(error, OSError) and error.errno not in NO_PLACE:
            raise
        raise BrokenArchive(f"{archive}: not a whole zip archive ({one_line(error)}); {AGAIN}") from error


def _members(dataset: Dataset, archive: Path, spill: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of `archive` and of the zips inside it, these by way of the file `spill`."""
    found = _of_folder(dataset, archive) if archive.is_dir() else _of_zip(dataset, archive, archive)
    for name, content in found:
        if _is_part(dataset, name):
            with spill.open("wb") as file:
                shutil.copyfileobj(content, file, MIB)  # within another zip it cannot be read at random places
            yield from _of_zip(dataset, spill, archive / name)
            spill.unlink()
        else:
            yield name, content


def _of_folder(dataset: Dataset, folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    files = _files(folder)
    _require_member(dataset, folder, list(files))
    for name, path in files.items():
        with path.open("rb") as content:
            yield name, content


def _of_zip(dataset: Dataset, path: Path, name: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files in the zip archive `path`, which is called `name`.

    Raises `BrokenArchive` if the name of one is unsafe, the content huge or encrypted, and where none is of `dataset`.
    Old programs on Windows write backslashes between folders: they become slashes.
    """
    with zipfile.ZipFile(path) as source:
        members = source.infolist()
        for member in members:
            member.filename = file = member.filename.replace("\\", "/")
            kind, parts = stat.S_IFMT(member.external_attr >> 16), file.split("/")
            if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", file):
                raise BrokenArchive(f"{name}: '{file}' would be written outside its folder; {REFUSED}")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BrokenArchive(f"{name}: '{file}' is a link or device, not a file; {REFUSED}")
            if member.flag_bits & 1:
                raise BrokenArchive(f"{name}: '{file}' is encrypted; {BY_HAND}")
        packed, content = sum(m.compress_size for m in members), sum(m.file_size for m in members)
        if content > max(64 * MIB, 100 * packed):
            raise BrokenArchive(f"{name}: {packed} bytes claim to hold {content} (a zip bomb?); {REFUSED}")
        files = [member for member in members if not member.is_dir()]
        _require_member(dataset, name, [member.filename for member in files])
        for member in files:
            with source.open(member) as stream:  # gives no more than the declared size, and checks the CRC
                yield member.filename, stream


def _require_member(dataset: Dataset, archive: Path, names: list[str]) -> None:
    """Raise `BrokenArchive` unless the `names` in an archive are of `dataset`; it says of which set they look.

    A few may be of another set: br35h and navoneel both hold a No12.jpg.
    """
    sets = [facts for facts in (dataset, *CATALOG.values()) if facts.layout not in ("generated", "joined", "own")]
    known = [sum(_belongs(facts, name) for name in names) for facts in sets]
    it = dataset if 2 * known[0] >= max(known) else sets[known.index(max(known))]
    if not any(known):
        found = ", ".join(names[:2]) or "nothing"
        raise BrokenArchive(f"{archive}: this is not {dataset.name} (it holds {found}); {dataset.again}")
    if it is not dataset:
        command = f"python datasets/download.py {it.name} --archive {archive}"
        raise BrokenArchive(f"{archive}: this is not {dataset.name}, it looks like {it.name}. For that: {command}")


def _belongs(dataset: Dataset, member: str) -> bool:
    return bool(target(dataset, member)) or _is_part(dataset, member)


def _is_part(dataset: Dataset, member: str) -> bool:
    """Whether a member is a zip archive of images in turn."""
    return dataset.layout == "matlab" and bool(INNER_ZIP.search(member))
