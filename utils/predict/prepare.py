"""Finds and reads what somebody wants an answer about: images, DICOM series and NIfTI volumes, whole or by sequence.

Pixels are scaled exactly as `datasets/sources` scales those that models are trained on.
"""

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from datasets.catalog import DataError
from datasets.commands import NOTE
from datasets.reading import reading
from datasets.sources import brats, dicom, own, volumes, walk
from datasets.sources.dicom import UNKNOWN
from datasets.sources.folders import IMAGE_SUFFIXES
from datasets.store.preprocess import COLOUR, RawImage, examine

IMAGE, SERIES, VOLUME, SEQUENCES = "image", "DICOM series", "volume", "sequences"
HEAD = re.compile("HEAD|BRAIN|SKULL|CRANI|CEREB|NEURO|KOPF|SCHAEDEL|SCHÄDEL|CRANE|CRÂNE|TETE|TÊTE|PITUIT|SELLA|ORBIT")


@dataclass(frozen=True)
class Slices:
    """The slices of a scan: `images`, each H×W or H×W×C uint8, `numbers` their places in it from 0; `colour`: an image
    that was made grey; `strange`: what DICOM tags say that it is, where that is no MR image of a head. Slices of one
    grey value are left out, of which a model can say nothing; `total` counts all. `spacing`: mm from slice to slice,
    row to row and column to column, NaN where the files do not say it.
    """

    images: list[np.ndarray]
    numbers: list[int]
    total: int
    colour: bool
    spacing: tuple[float, float, float]
    strange: str = ""

    @property
    def raws(self) -> list[RawImage]:
        return [RawImage(image) for image in self.images]


@dataclass(frozen=True)
class Scan:
    """One thing to answer about.

    Attributes:
        name: as it is shown: the path of its first file, or its folder, below what all scans have in common.
        kind: `IMAGE`, `SERIES`, `VOLUME` or `SEQUENCES`.
        files: one, or the slices of a series in order, or the volumes of one patient, one for each of `channels`.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    channels: tuple[str, ...] = ()

    def read(self) -> Slices:
        """Its slices; raises `DataError` with one line that names the file, what is wrong and what to do."""
        try:
            with reading(self.name):
                if empty := [file.name for file in self.files if file.is_file() and not file.stat().st_size]:
                    raise DataError(f"{empty[0]}: an empty file")
                planes, remarks, spacing, strange = self._read()
        except DataError as error:
            named = "" if self.kind == SEQUENCES else f"{self.files[0].name}: "  # by the name of the scan, too
            reason = str(error).removeprefix(f"{self.name}: ").removeprefix(named)
            raise DataError(f"{self.name}: {reason}") from error
        seen = [number for number, plane in enumerate(planes) if plane.min() < plane.max()]
        if not seen:
            what = "an image of one grey value" if len(planes) == 1 else "every slice is of one grey value"
            raise DataError(f"{self.name}: {what}")
        of = [planes[number] for number in seen]
        return Slices(of, seen, len(planes), COLOUR in remarks, spacing, strange)

    def _read(self) -> tuple[Sequence[np.ndarray], Sequence[str], tuple[float, float, float], str]:
        """All slices, the remarks of `examine` on them, and `spacing` and `strange` of `Slices`."""
        if self.kind == IMAGE:
            image, remarks = examine(self.files[0].read_bytes(), look_for_colour=True)
            return [image], remarks, UNKNOWN, ""
        if self.kind == SEQUENCES:
            paths = brats.sequences(self.files, self.channels)
            return brats.read_sequences(paths), (), volumes.spacing(paths[0], axis=2), ""
        if self.kind == VOLUME:
            return *volumes.read(self.files[0]), volumes.spacing(self.files[0]), ""
        headers = [dicom.read_header(file) for file in self.files]
        if any(header.mixed for header in headers):
            raise DataError("frames of several directions or echoes, or of one place; dcm2niix makes a volume of each")
        if (np.diff([header.position for header in headers]) < dicom.SAME_PLACE).any():
            several = "several images of one place (one after another in time, or by other settings) in one series"
            raise DataError(f"{several}; name the files of one, or put them into a folder of their own")
        # Each file of a series is scaled by itself, as in a data set of a reader's own.
        parts, remarks = zip(*map(volumes.read, self.files), strict=True)
        planes = [plane for part in parts for plane in part]
        return planes, sum(remarks, ()), dicom.spacing(headers), _strange(headers[0])

    def as_volume(self, masks: np.ndarray) -> nib.Nifti1Image:
        """Masks of all slices of a `VOLUME` or of `SEQUENCES`, N×H×W uint8, as a volume that lies on its file."""
        if self.kind == VOLUME:
            return volumes.as_volume(masks, self.files[0], volumes.laid)
        return volumes.as_volume(masks, brats.sequences(self.files, self.channels)[0], brats.laid)


def find(paths: Sequence[Path], channels: Sequence[str]) -> tuple[list[Scan], list[str]]:
    """The scans in files and folders, for a model of these `channels`, and notes on files that are none.

    A file is a scan; DICOM files of one series that lie in one folder are one together, those of each direction and
    echo. In a folder, below it too, every image and NIfTI volume is one, and the DICOM files of each series are; for a
    model of several channels the NIfTI files of each patient in a folder are, told apart by what their names begin
    with. Masks, by their names, and what earlier answers left there are none. What is named twice, and copies of a
    DICOM file under another name, are found once.

    Raises `DataError`: a path that does not exist, or a folder without a scan.
    """
    several = len(channels) > 1
    groups: dict[tuple, list[Path]] = {}  # the files of a scan
    headers: dict[Path, dicom.Header] = {}  # of DICOM files
    images: dict[tuple, Path] = {}  # of each DICOM image the first file
    notes: list[str] = []
    named = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    for path in named:
        if not (os.path.isfile(path) or os.path.isdir(path)):  # a pipe is neither: it cannot be read twice
            raise DataError(f"{path}: no such file or folder")
        files = [path]
        if path.is_dir():
            with reading(path):
                below = [p for p in sorted(walk(path)) if p.is_file()]
            below = [p for p in below if not any(x[0] == "." for x in p.relative_to(path).parts)]
            files = [p for p in below if (volumes.is_nifti(p) if several else _is_scan(p)) and not is_written(p)]
            masks = {path / mask for mask in own.masks_among([file.relative_to(path) for file in files])}
            files = [file for file in files if several or file not in masks]
            if not files:
                wanted = "image (JPEG, PNG, TIFF, …), DICOM file or NIfTI volume"
                wanted = f"NIfTI volumes of {', '.join(channels)}" if several else wanted
                raise DataError(f"{path}: no {wanted} in this folder")
            told = {file.parent for file in files if several and brats.named(file)[1] in channels}
            files = [file for file in files if file.parent not in told or brats.named(file)[1] in channels]
            if others := sorted(set(below) - set(files)):
                first = ", ".join(other.name for other in others[:3])
                notes.append(f"{path}: {len(others)} files are no scans and were left out, {first} first")
        elif several:
            needs = f"this model needs {', '.join(channels)} together; name the folder that holds them"
            raise DataError(f"{path.name}: {needs}")
        for file in files:
            key = (file.parent, brats.named(file)[0]) if several else (file,)
            if not several and volumes.is_dicom(file):
                with suppress(DataError):  # one that is not whole is a scan by itself, and says so when it is read
                    headers[file] = header = dicom.read_header(file)
                    key = (file.parent, header.series or file, header.stack)
                    image = f"{header.instance} {header.position} {header.number}" if header.instance else file
                    if (first := images.setdefault((*key, image), file)) != file:
                        notes.append(f"{file}: a copy of {first.name} (one SOPInstanceUID), left out")
                        continue
            if file not in groups.setdefault(key, []):
                groups[key].append(file)
    root, scans = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in named])), []
    patients = Counter(folder for folder, *_ in groups)  # in each folder, where there are several channels
    if several and root in patients:  # the folder of one patient has a name, too
        root = root.parent
    for (folder, *whose), files in groups.items():
        if several:
            name = folder.relative_to(root).joinpath(*whose if patients[folder] > 1 else ())
            scans.append(Scan(_shown(name), SEQUENCES, tuple(files), tuple(channels)))
            continue
        kind = VOLUME if volumes.is_nifti(files[0]) else SERIES if volumes.is_dicom(files[0]) else IMAGE
        if headers.keys() >= {*files}:  # from the lowest slice to the highest, or by their numbers
            known = all(np.isfinite(headers[file].position) for file in files)
            files.sort(key=lambda f: (headers[f].position if known else headers[f].number, f.name))
        scans.append(Scan(_shown(files[0].relative_to(root)), kind, tuple(files)))
    return scans, notes


def _shown(path: Path) -> str:
    """A path as text that a terminal, a figure and JSON can hold; what is not printable is written out (`\\x1b`)."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def _is_scan(file: Path) -> bool:
    """Whether a file in a folder is an image, a volume that is no segmentation by its name, or of a DICOM series."""
    if volumes.is_nifti(file):
        return brats.named(file)[1] != "segmentation"
    return file.suffix.lower() in IMAGE_SUFFIXES or bool(file.stat().st_size and volumes.is_dicom(file))


def is_written(file: Path) -> bool:
    """Whether a file is a figure or a mask of an earlier answer, all of which say so of themselves."""
    with suppress(OSError, EOFError, zlib.error), (gzip.open if file.suffix == ".gz" else open)(file, "rb") as opened:
        return NOTE.partition(".")[0].encode() in opened.read(2**16)
    return False


def _strange(header: dicom.Header) -> str:
    """What a file is by its tags, where that is no MR image of a head."""
    modality = header.modality if header.modality != "MR" else ""
    return " of ".join(filter(None, (modality, "" if HEAD.search(header.body) else header.body)))
