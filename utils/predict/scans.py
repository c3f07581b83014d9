"""Finds and reads what somebody wants an answer about: images, DICOM series and NIfTI volumes, whole or by sequence.

Pixels are scaled exactly as `datasets/sources` scales those that models are trained on.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from datasets.catalog import DataError
from datasets.sources import brats, dicom, volumes
from datasets.sources.folders import IMAGE_SUFFIXES
from datasets.store.preprocess import COLOUR, RawImage, examine

IMAGE, SERIES, VOLUME, SEQUENCES = "image", "DICOM series", "volume", "sequences"
GREY = "grey"


@dataclass(frozen=True)
class Scan:
    """One thing to answer about.

    Attributes:
        name: as it is shown, with so many of the folders that hold it that no other has the same.
        kind: `IMAGE`, `SERIES`, `VOLUME` or `SEQUENCES`.
        files: one, or the slices of a series in order, or the folder in which each of `channels` has a volume.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    channels: tuple[str, ...] = ()

    def read(self) -> "Slices":
        """Its slices.

        Raises:
            DataError: one line that names the file, what is wrong and what to do.
        """
        try:
            if any(file.is_file() and not file.stat().st_size for file in self.files):
                raise DataError("an empty file")
            return _READERS[self.kind](self)
        except DataError as error:
            said, file = str(error), self.files[0].name
            if file and self.name.endswith(file) and said.startswith(f"{file}:"):
                said = self.name + said.removeprefix(file)  # with the folders that its name may have
            named = said.startswith((self.name, *(file.name for file in self.files)))
            raise DataError(said if named else f"{self.name}: {said}") from error
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error})") from error
        except MemoryError as error:
            raise DataError(f"{self.name}: too large for the memory of this machine") from error


@dataclass(frozen=True)
class Slices:
    """The slices of a scan: `images`, each H×W or H×W×C uint8, `numbers` their places in it from 0; `colour`: an image
    that was made grey. Slices of one grey value are left out, of which a model can say nothing; `total` counts all.
    """

    images: list[np.ndarray]
    numbers: list[int]
    total: int
    colour: bool = False
    raws: list[RawImage] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "raws", [RawImage(image) for image in self.images])


def find(paths: Sequence[Path], channels: Sequence[str], by_folder: bool = True) -> tuple[list[Scan], list[str]]:
    """The scans in files and folders, for a model of these `channels`, and notes on files that are none.

    A file is a scan; DICOM files of one series that lie in one folder are one together. In a folder, below it too,
    every image and NIfTI volume is one, and the DICOM files of each series are; for a model of several channels every
    folder with a NIfTI file of each is one. What is named twice is found once, and no two scans have the same name.

    Args:
        by_folder: False where the folders of files say nothing: those of one series are one scan wherever they lie.

    Raises:
        DataError: a path that does not exist, or a folder without a scan.
    """
    scans: list[Scan] = []
    notes: list[str] = []
    together: dict[tuple, list[Path]] = {}  # what is named; DICOM files of one series are one entry
    for path in {os.path.abspath(path): path for path in paths}.values():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        dicom_file = path.is_file() and volumes.is_dicom(path)
        home = path.parent if by_folder else None
        together.setdefault((home, _series(path)) if dicom_file else (path,), []).append(path)
    for path, *others_of_series in together.values():
        if path.is_dir():
            found, others = _in_folder(path, channels)
            if not found:
                raise DataError(f"{path}: no {_wanted(channels)} in this folder")
            if others:
                first = ", ".join(other.name for other in others[:3])
                notes.append(f"{path}: {len(others)} files are no scans and were left out, {first} first")
            scans += found
        else:
            scans.append(_of_files([path, *others_of_series], channels))
    return _told_apart(scans), notes


def _told_apart(scans: Sequence[Scan]) -> list[Scan]:
    """Every scan once, and where names repeat, with so many of the folders that hold it before its name that none does.

    Of scans that begin with one file, such as a series and a file of it, the one with most files is kept.
    """
    found: dict[str, Scan] = {}
    for scan in scans:
        first = os.path.abspath(scan.files[0])
        if first not in found or len(scan.files) > len(found[first].files):
            found[first] = scan
    once = list(found.values())
    while repeated := {name for name, times in Counter(scan.name for scan in once).items() if times > 1}:
        once = [replace(scan, name=_with_a_folder(scan)) if scan.name in repeated else scan for scan in once]
    return once


def _with_a_folder(scan: Scan) -> str:
    """The name of a scan, the end of the path of its first file or its folder, with one more folder before it.

    Paths differ, so names that are lengthened often enough do, too.
    """
    parts, known = Path(os.path.abspath(scan.files[0])).parts[1:], Path(scan.name).parts
    if parts[-len(known) :] != known:
        parts = parts[:-1]  # a series that is named for its folder
    return "/".join(parts[-len(known) - 1 :])


def _wanted(channels: Sequence[str]) -> str:
    if len(channels) > 1:
        return f"NIfTI volumes of {', '.join(channels)}"
    return "image (JPEG, PNG, TIFF, …), DICOM file or NIfTI volume"


def _of_files(files: Sequence[Path], channels: Sequence[str]) -> Scan:
    """The scan of one file, or of several of one DICOM series."""
    files = _ordered(files)
    path = files[0]
    if len(channels) > 1:
        raise DataError(
            f"{path.name}: this model needs {', '.join(channels)} together; name the folder that holds them"
        )
    if volumes.is_nifti(path):
        return Scan(path.name, VOLUME, (path,))
    if volumes.is_dicom(path):
        return Scan(path.name, SERIES, tuple(files))
    return Scan(path.name, IMAGE, (path,))


def _in_folder(folder: Path, channels: Sequence[str]) -> tuple[list[Scan], list[Path]]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if len(channels) > 1:
        homes = sorted({path.parent for path in files if volumes.is_nifti(path)})
        return [Scan(_shown(home, folder), SEQUENCES, (home,), tuple(channels)) for home in homes], []
    scans, others, series = [], [], {}
    for path in files:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            scans.append(Scan(_shown(path, folder), IMAGE, (path,)))
        elif volumes.is_nifti(path):
            scans.append(Scan(_shown(path, folder), VOLUME, (path,)))
        elif path.stat().st_size and volumes.is_dicom(path):
            series.setdefault((path.parent, _series(path)), []).append(path)
        else:
            others.append(path)
    for (home, _), members in series.items():
        alone = len(members) > 1 and sum(parent == home for parent, _ in series) == 1
        ordered = _ordered(members)
        scans.append(Scan(_shown(home if alone else ordered[0], folder), SERIES, tuple(ordered)))
    return scans, others


def _shown(path: Path, folder: Path) -> str:
    inside = path.relative_to(folder).as_posix()
    return os.path.basename(os.path.abspath(folder)) if inside == "." else inside  # "." itself has no name


def _series(path: Path) -> str:
    """The series of a DICOM file; a file that cannot be read is one by itself, and says so when it is read."""
    try:
        return dicom.read_header(path).series or str(path)
    except DataError:
        return str(path)


def _ordered(files: Sequence[Path]) -> Sequence[Path]:
    """The files of a series from the lowest slice to the highest, or by their numbers where positions are unknown."""
    if len(files) == 1:
        return files
    headers = {path: dicom.read_header(path) for path in files}
    known = all(np.isfinite(header.position) for header in headers.values())
    return sorted(files, key=lambda f: (headers[f].position if known else headers[f].number, f.name))


def as_volume(masks: np.ndarray, scan: Scan) -> nib.Nifti1Image:
    """Masks of all slices of a `VOLUME` or of `SEQUENCES`, N×H×W uint8, as a volume that lies on the scan's file."""
    if scan.kind == VOLUME:
        return volumes.as_volume(masks, scan.files[0])
    return brats.as_volume(masks, brats.sequences(scan.files[0], scan.channels)[0])


# ---- reading -------------------------------------------------------------------------------------------


def _image(scan: Scan) -> Slices:
    (path,) = scan.files
    image, remarks = examine(path.read_bytes(), look_for_colour=True)
    if image.min() == image.max():
        raise DataError(f"{scan.name}: an image of one grey value")
    return Slices([image], [0], 1, COLOUR in remarks)


def _planes(planes: Iterator[np.ndarray], name: str) -> Slices:
    kept = [(number, plane) for number, plane in enumerate(planes)]
    seen = [(number, plane) for number, plane in kept if plane.min() < plane.max()]
    if not seen:
        raise DataError(f"{name}: every slice of it is of one grey value")
    return Slices([plane for _, plane in seen], [number for number, _ in seen], len(kept))


def _series_slices(scan: Scan) -> Slices:
    """Each file is scaled by itself, as in a data set of a reader's own."""
    return _planes((plane for path in scan.files for plane in volumes.read(path)), scan.name)


def _volume(scan: Scan) -> Slices:
    return _planes(iter(volumes.read(scan.files[0])), scan.name)


def _sequence_volumes(scan: Scan) -> Slices:
    return _planes(iter(brats.read_sequences(brats.sequences(scan.files[0], scan.channels))), scan.name)


_READERS = {IMAGE: _image, SERIES: _series_slices, VOLUME: _volume, SEQUENCES: _sequence_volumes}
