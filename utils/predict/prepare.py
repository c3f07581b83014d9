"""Finds and reads what somebody wants an answer about: images, DICOM series and NIfTI volumes, whole or by sequence.

Pixels are scaled exactly as `datasets/sources` scales those that models are trained on.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from datasets.catalog import DataError
from datasets.sources import brats, dicom, volumes
from datasets.sources.folders import IMAGE_SUFFIXES
from datasets.store.preprocess import COLOUR, RawImage, examine

IMAGE, SERIES, VOLUME, SEQUENCES = "image", "DICOM series", "volume", "sequences"


@dataclass(frozen=True)
class Slices:
    """The slices of a scan: `images`, each H×W or H×W×C uint8, `numbers` their places in it from 0; `colour`: an image
    that was made grey. Slices of one grey value are left out, of which a model can say nothing; `total` counts all.
    """

    images: list[np.ndarray]
    numbers: list[int]
    total: int
    colour: bool

    @property
    def raws(self) -> list[RawImage]:
        return [RawImage(image) for image in self.images]


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

    def read(self) -> Slices:
        """Its slices; raises `DataError` with one line that names the file, what is wrong and what to do."""
        try:
            if any(file.is_file() and not file.stat().st_size for file in self.files):
                raise DataError("an empty file")
            return self._slices()
        except DataError as error:
            reason = str(error).removeprefix(f"{self.files[0].name}: ")
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
        except MemoryError:
            reason = "too large for the memory of this machine"
        raise DataError(f"{self.name}: {reason}")

    def _slices(self) -> Slices:
        colour = False
        if self.kind == IMAGE:
            image, remarks = examine(self.files[0].read_bytes(), look_for_colour=True)
            planes, colour = [image], COLOUR in remarks
        elif self.kind == SEQUENCES:
            planes = brats.read_sequences(brats.sequences(self.files[0], self.channels))
        else:  # each file of a series is scaled by itself, as in a data set of a reader's own
            planes = [plane for file in self.files for plane in volumes.read(file)]
        seen = [number for number, plane in enumerate(planes) if plane.min() < plane.max()]
        if not seen:
            raise DataError("an image of one grey value" if len(planes) == 1 else "every slice is of one grey value")
        return Slices([planes[number] for number in seen], seen, len(planes), colour)

    def as_volume(self, masks: np.ndarray) -> nib.Nifti1Image:
        """Masks of all slices of a `VOLUME` or of `SEQUENCES`, N×H×W uint8, as a volume that lies on its file."""
        if self.kind == VOLUME:
            return volumes.as_volume(masks, self.files[0])
        return brats.as_volume(masks, brats.sequences(self.files[0], self.channels)[0])


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
    groups: dict[tuple, dict[str, Path]] = {}  # the files of a scan by their absolute paths
    folders: dict[str, Path] = {}  # where it was found: absolute path of a file → the folder that was named
    notes: list[str] = []
    for path in {os.path.abspath(path): path for path in paths}.values():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        files = [path]
        if path.is_dir():
            below = [p for p in sorted(path.rglob("*")) if not any(x[0] == "." for x in p.relative_to(path).parts)]
            below = [p for p in below if p.is_file()]
            files = [p for p in below if (volumes.is_nifti(p) if len(channels) > 1 else _is_scan(p))]
            if not files:
                wanted = f"NIfTI volumes of {', '.join(channels)}"
                if len(channels) == 1:
                    wanted = "image (JPEG, PNG, TIFF, …), DICOM file or NIfTI volume"
                raise DataError(f"{path}: no {wanted} in this folder")
            if len(channels) == 1 and (others := sorted(set(below) - set(files))):
                first = ", ".join(other.name for other in others[:3])
                notes.append(f"{path}: {len(others)} files are no scans and were left out, {first} first")
            folders |= {os.path.abspath(file): path for file in files}
        elif len(channels) > 1:
            needs = f"this model needs {', '.join(channels)} together; name the folder that holds them"
            raise DataError(f"{path.name}: {needs}")
        for file in files:
            absolute = os.path.abspath(file)
            key = (os.path.dirname(absolute),) if len(channels) > 1 else (absolute,)
            if len(channels) == 1 and volumes.is_dicom(file):
                key = (os.path.dirname(absolute) if by_folder else "", _series(file))
            groups.setdefault(key, {}).setdefault(absolute, file)
    in_folder, scans = Counter(key[0] for key in groups), []
    for key, members in groups.items():
        files, folder = tuple(members.values()), folders.get(next(iter(members)))
        shown, kind = files[0], VOLUME if volumes.is_nifti(files[0]) else IMAGE
        if len(channels) > 1:
            files, kind, shown = (shown.parent,), SEQUENCES, shown.parent
        elif volumes.is_dicom(shown):
            files, kind = _ordered(files), SERIES
            alone = folder and len(files) > 1 and in_folder[key[0]] == 1
            shown = files[0].parent if alone else files[0]
        name = Path(os.path.relpath(shown, folder)).as_posix() if folder else shown.name
        name = os.path.basename(os.path.abspath(folder)) if name == "." else name  # "." itself has no name
        scans.append(Scan(name, kind, files, tuple(channels) if kind == SEQUENCES else ()))
    while repeated := {name for name, times in Counter(scan.name for scan in scans).items() if times > 1}:
        scans = [replace(scan, name=_with_a_folder(scan)) if scan.name in repeated else scan for scan in scans]
    return scans, notes


def _is_scan(file: Path) -> bool:
    """Whether a file in a folder is an image, a volume, or of a DICOM series."""
    if file.suffix.lower() in IMAGE_SUFFIXES or volumes.is_nifti(file):
        return True
    return bool(file.stat().st_size) and volumes.is_dicom(file)


def _series(path: Path) -> str:
    """The series of a DICOM file; a file that cannot be read is one by itself, and says so when it is read."""
    try:
        return dicom.read_header(path).series or str(path)
    except DataError:
        return str(path)


def _ordered(files: Sequence[Path]) -> tuple[Path, ...]:
    """The files of a series from the lowest slice to the highest, or by their numbers where positions are unknown."""
    if len(files) == 1:
        return tuple(files)
    headers = {path: dicom.read_header(path) for path in files}
    known = all(np.isfinite(header.position) for header in headers.values())
    return tuple(sorted(files, key=lambda f: (headers[f].position if known else headers[f].number, f.name)))


def _with_a_folder(scan: Scan) -> str:
    """The name of a scan, the end of the path of its first file or its folder, with one more folder before it."""
    parts, known = Path(os.path.abspath(scan.files[0])).parts[1:], Path(scan.name).parts
    if parts[-len(known) :] != known:
        parts = parts[:-1]  # a series that is named for its folder
    return "/".join(parts[-len(known) - 1 :])
