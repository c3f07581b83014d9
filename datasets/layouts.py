"""How each publisher arranges files: what to take out of an archive, safely, and how to read it.

A layout turns an archive into `raw/` (`unpack`), `raw/` into a list (`samples`), one of them into pictures
(`read`).  `catalog.py` names each set's layout; `preprocess.py` crops, resizes and packs the pictures. Volumes are
read in `brats.py`, a reader's own folder in `own.py`.
"""

import io
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import h5py
import numpy as np

from datasets import brats, manifest, own
from datasets.catalog import CATALOG, DataError, Dataset
from datasets.preprocess import Picture, decode, to_uint8

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MIB = 2**20
REFUSED = "nothing was unpacked; take the archive from its publisher"
INNER_ZIP = re.compile(r"brainTumorDataPublic_[\d-]+\.zip$")
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class BrokenArchive(DataError):
    """The archive itself is at fault: a fetched copy is not worth keeping."""


@dataclass(frozen=True)
class Sample:
    """One image of `raw/`, or one patient's folder of volumes: path there, label ("" where only the file tells it)
    and published split.
    """

    path: str
    label: str
    split: str


def target(dataset: Dataset, member: str) -> str | None:
    """Path under `raw/` at which an archive's `member` belongs, or None where the set has no use for it."""
    path = PurePosixPath(member)
    if dataset.layout == "matlab":
        return path.name if re.fullmatch(r"\d+\.mat", path.name) else None
    if dataset.layout == "brats":
        return brats.target(member)
    if len(path.parts) < 3 or path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("._"):
        return None
    split, folder, name = path.parts[-3:]  # whatever folder the whole was zipped in is dropped
    return f"{split}/{folder}/{name}" if split in dataset.splits and folder in dataset.folders else None


def unpack(dataset: Dataset, archive: Path, raw: Path, progress: Callable[[int], Any] | None = None) -> list[str]:
    """Unpack the images of `archive` into the new folder `raw`; return the members that were left out.

    Raises `BrokenArchive` for a damaged archive, another set's, and one that would write outside `raw` or
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
                raise BrokenArchive(f"{archive}: holds {path} twice; take {dataset.archive} from {dataset.url}")
            else:
                (raw / path).parent.mkdir(parents=True, exist_ok=True)
                with (raw / path).open("wb") as file:
                    shutil.copyfileobj(content, file, MIB)
                if progress:
                    progress(1)
    return left_out


def content_bytes(archive: Path) -> int:
    """Bytes that `archive` declares to hold, unpacked; `BrokenArchive` where it is no whole zip archive."""
    with _whole(archive), zipfile.ZipFile(archive) as source:
        return sum(member.file_size for member in source.infolist())


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise BrokenArchive(f"{archive}: not a whole zip archive ({error}); download it again") from error


def _members(dataset: Dataset, archive: Path, spill: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of `archive`, then of the zips inside it, by way of the file `spill`."""
    with zipfile.ZipFile(archive) as outer:
        members = check_members(archive, outer.infolist())
        parts = [m for m in members if dataset.layout == "matlab" and INNER_ZIP.search(m.filename)]
        if not parts and not any(target(dataset, m.filename) for m in members):
            raise BrokenArchive(_wrong_archive(dataset, archive, [m.filename for m in members]))
        yield from _contents(outer, [m for m in members if m not in parts])
        for part in parts:
            with outer.open(part) as content, spill.open("wb") as file:
                shutil.copyfileobj(content, file, MIB)  # within the outer zip it cannot be read at random places
            with zipfile.ZipFile(spill) as inner:
                yield from _contents(inner, check_members(archive / part.filename, inner.infolist()))
            spill.unlink()


def _contents(source: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, IO[bytes]]]:
    for member in members:
        with source.open(member) as content:  # gives no more than the declared size, and checks the CRC
            yield member.filename, content


def check_members(archive: Path, members: Iterable[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files among an archive's `members`; `BrokenArchive` if a name is unsafe or the content huge."""
    members = list(members)
    for member in members:
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        parts = re.split(r"[/\\]", name)
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise BrokenArchive(f"{archive}: '{name}' would be written outside its folder; {REFUSED}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BrokenArchive(f"{archive}: '{name}' is a link or device, not a file; {REFUSED}")
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
    return bool(target(dataset, member) or (dataset.layout == "matlab" and INNER_ZIP.search(member)))


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """The images of `raw`, sorted by path; `BrokenArchive` names a class folder that is missing or empty."""
    if dataset.layout == "matlab":
        return [Sample(path.name, "", "") for path in sorted(raw.glob("*.mat"))]
    if dataset.layout == "brats":
        return [Sample(path.name, dataset.classes[0], "") for path in sorted(raw.iterdir())]
    if dataset.layout == "own":
        return [Sample(row["image"], own.LABEL, "") for row in own.read_table(raw)]
    found = []
    for split, published in dataset.splits.items():
        for folder, label in dataset.folders.items():
            files = [p for p in (raw / split / folder).glob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
            if not files:
                raise BrokenArchive(
                    f"{dataset.name}: class folder {split}/{folder} holds no image; "
                    f"take {dataset.archive} from {dataset.url}"
                )
            found += [Sample(f"{split}/{folder}/{p.name}", label, published) for p in files]
    return sorted(found, key=lambda sample: sample.path)


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[Picture]:
    """The pictures in `raw`/`path` with the facts of their file; raises `DataError` with the reason where it is broken.

    `bits`: 8 or 16 for a pixel of a volume.
    """
    if dataset.layout == "brats":
        pictures = brats.read(dataset, raw / path, bits)
    elif dataset.layout == "own":
        pictures = [own.read(raw, path)]
    elif dataset.layout == "matlab":
        pictures = [_read_matlab(dataset, (raw / path).read_bytes())]
    else:
        pictures = [Picture(decode((raw / path).read_bytes()))]
    height, width = pictures[0].image.shape[:2]
    facts = {"bytes": manifest.size(raw / path), "width": width, "height": height}
    facts["file_sha256"] = manifest.sha256(raw / path)
    return [replace(picture, facts=facts | picture.facts) for picture in pictures]


def _read_matlab(dataset: Dataset, content: bytes) -> Picture:
    """One figshare file: MATLAB v7.3 = HDF5, arrays transposed; `PID` is the patient's code in characters."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            data = file["cjdata"]
            pixels, mask = data["image"][()].T, data["tumorMask"][()].T
            pid = "".join(chr(int(character)) for character in data["PID"][()].ravel())
            label = dataset.folders[str(int(data["label"][()].item()))]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"not one of figshare's .mat files ({str(error).splitlines()[0][:90]})") from error
    if pixels.ndim != 2 or pixels.shape != mask.shape:
        raise DataError(f"image {pixels.shape} and mask {mask.shape} should have one shape H×W")
    facts = {"label": label, "pid": pid, "patient": patient(pid)}
    return Picture(to_uint8(pixels), (mask != 0).astype(np.uint8)[..., None], facts)


def patient(pid: str) -> str:
    """Cheng's patient of a `PID`: without the letter that ends some (MR040240, MR040240B), 209 of 233 ids.

    Cautious: the letters are taken to count examinations.  Should they tell people apart after all, folds by
    patient only get a little coarser.
    """
    return re.sub(r"(?<=\d)[A-Za-z]$", "", pid)
