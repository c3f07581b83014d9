"""One DICOM file as grey images: compressed or not, signed or not, of 8 to 16 bits, one frame or several."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale, convert_color_space

from datasets.catalog import DataError
from datasets.reading import reading

NOT_WHOLE = "not a whole DICOM file"
UNKNOWN = 3 * (float("nan"),)  # a spacing
EVEN = 0.01  # share by which distances between slices may differ


class Header(NamedTuple):
    """What the tags of a file say: `modality` and `series` "" and `position` (of the slice along its normal, in mm) NaN
    where they do not; `number` of the file in its series; `frames` in it; `pixel`, mm from row to row and from column
    to column, NaN likewise."""

    modality: str
    series: str
    position: float
    number: int
    frames: int
    pixel: tuple[float, float]


def read_header(path: Path) -> Header:
    """The tags of a file, without its pixels; `DataError` names a file that is not whole."""
    data = _tags(path, pixels=False)
    with reading(path.name, what=NOT_WHOLE):  # values are decoded when they are asked for
        return Header(
            str(data.get("Modality") or ""),
            str(data.get("SeriesInstanceUID") or ""),
            _position(data),
            _whole(data.get("InstanceNumber"), 0),
            _whole(data.get("NumberOfFrames"), 1),
            _pixel(data),
        )


def spacing(headers: Sequence[Header]) -> tuple[float, float, float]:
    """mm from slice to slice, row to row and column to column of the files of a series in order; NaN what they do not
    say, or where they differ."""
    pixels, steps = np.array([header.pixel for header in headers]), np.diff([header.position for header in headers])
    rows, columns = pixels[0] if np.allclose(pixels, pixels[0]) else UNKNOWN[:2]
    single = all(header.frames == 1 for header in headers)
    even = single and len(steps) > 0 and np.allclose(steps, steps[0], rtol=EVEN) and steps[0] > 0
    return float(steps[0]) if even else UNKNOWN[0], float(rows), float(columns)


def read_pixels(path: Path) -> np.ndarray:
    """The frames of a file, float32 N×H×W; a larger value is brighter.

    Rescale slope and intercept are applied, MONOCHROME1 is turned round (there the lowest value is white), colour
    becomes luminance.  Raises `DataError`, which names the file: no DICOM file, no image in it (a report, a plan), or
    pixels that cannot be decoded.
    """
    data = _tags(path, pixels=True)
    if "PixelData" not in data:
        raise DataError(f"{path.name}: a DICOM file without image; leave it out")
    with reading(path.name, what="its pixels cannot be decoded"):
        pixels = _grey(data)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path.name}: holds NaN or infinite values after rescaling")
    return pixels


def _tags(path: Path, pixels: bool) -> pydicom.Dataset:
    with reading(path.name, what=NOT_WHOLE):
        try:
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError as error:
            raise DataError(f"{path.name}: not a DICOM file") from error


def _grey(data: pydicom.Dataset) -> np.ndarray:
    kind, pixels = str(data.PhotometricInterpretation), data.pixel_array
    colour = _whole(data.get("SamplesPerPixel"), 1) > 1
    if colour:
        if kind.startswith("YBR") and not data.file_meta.TransferSyntaxUID.is_compressed:
            pixels = convert_color_space(pixels, kind, "RGB")
        pixels = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])  # BT.601, as `preprocess.decode` has it
    if _whole(data.get("NumberOfFrames"), 1) <= 1:
        pixels = pixels[None]
    if not colour:
        pixels = apply_rescale(pixels, data)
    with np.errstate(over="ignore"):  # the caller looks for infinite values
        pixels = np.asarray(pixels, np.float32)
    return pixels.max() + pixels.min() - pixels if kind == "MONOCHROME1" else pixels


def _whole(value: object, otherwise: int) -> int:
    """A number that a tag holds as text, or what is taken where it is missing or none."""
    text = str(value).strip()
    return int(text) if text.isdecimal() else otherwise


def _pixel(data: pydicom.Dataset) -> tuple[float, float]:
    try:
        rows, columns = (float(value) for value in data.PixelSpacing)
        return (rows, columns) if 0 < rows < np.inf and 0 < columns < np.inf else UNKNOWN[:2]
    except (AttributeError, TypeError, ValueError):
        return UNKNOWN[:2]


def _position(data: pydicom.Dataset) -> float:
    """Where the slice lies along the normal of its plane, in mm."""
    try:
        across, down = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
        return float(np.cross(across, down) @ np.array(data.ImagePositionPatient, float))
    except (AttributeError, TypeError, ValueError):
        return float("nan")
