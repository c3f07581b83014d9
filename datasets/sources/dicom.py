"""One DICOM file as grey images: compressed or not, signed or not, of 8 to 16 bits, one frame or several."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_rescale
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from datasets.catalog import DataError
from datasets.reading import quiet, reading
from datasets.store.preprocess import COLOUR, COLOURLESS, JPEG_END

NOT_WHOLE = "not a whole DICOM file"
UNKNOWN = 3 * (float("nan"),)  # a spacing
SAME_PLACE = 0.01  # mm between two slices that are of one place
# Tags by which images of one series are told apart, each of the file or, in an enhanced one, of a frame.
STACK = ("EchoTime", "EffectiveEchoTime", "EchoNumbers", "ImageType", "FrameType", "PatientID", "StudyInstanceUID")
PLACE = ("ImageOrientationPatient", "ImagePositionPatient")
EVEN = 0.01  # share by which distances between slices may differ
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
JPEG = "1.2.840.10008.1.2.4."  # first digits of the transfer syntaxes of all kinds of it
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURED = ("PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


class Header(NamedTuple):
    """What the tags of a file say: texts are "" and `position` (of the slice along its normal, in mm) NaN where they do
    not; `number` of the file in its series; `frames` in it; `body`: the part that was examined; `pixel`, mm from row to
    row and from column to column, NaN where they do not say it.

    The slices of one volume share `stack` (a series may hold localisers in three directions, several echoes, magnitude
    and phase); `mixed`: whether frames of an enhanced file do not, or are of one place. `instance` names an image, and
    a copy of it alike.
    """

    modality: str
    body: str
    series: str
    stack: str
    mixed: bool
    instance: str
    position: float
    number: int
    frames: int
    pixel: tuple[float, float]


def read_header(path: Path) -> Header:
    """The tags of a file, without its pixels; `DataError` names a file that is not whole."""
    data = _tags(path, pixels=False)
    with reading(path.name, what=NOT_WHOLE):  # values are decoded when they are asked for
        stacks, places = zip(*_frames(data), strict=True)
        return Header(
            str(data.get("Modality") or "").strip().upper(),
            str(data.get("BodyPartExamined") or "").strip().upper(),
            str(data.get("SeriesInstanceUID") or ""),
            str(sorted(set(stacks))),
            len(set(stacks)) > 1 or bool((np.diff(np.sort(places)) < SAME_PLACE).any()),
            str(data.get("SOPInstanceUID") or ""),
            places[0] if len(places) == 1 else float("nan"),
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


@quiet()
def examine(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The frames of a file, and the remark `COLOUR` where they were coloured.

    Rescale slope and intercept, of each frame its own, or a table of values are applied, padding becomes the darkest
    value, MONOCHROME1 is turned round (there the lowest value is white), colour becomes luminance.  Raises
    `DataError`, which names the file: no DICOM file, no image in it (a report, a plan), a mosaic of slices, or pixels
    that cannot be decoded.
    """
    data = _tags(path, pixels=True)
    if not any(name in data for name in PIXELS):
        raise DataError(f"{path.name}: a DICOM file without image; leave it out")
    remedy = "if it is compressed, save it uncompressed (such as with dcmdjpeg of DCMTK), otherwise export it again"
    with reading(path.name, remedy, "its pixels cannot be decoded"), np.errstate(over="ignore"):
        if "MOSAIC" in (data.get("ImageType") or ()):
            raise DataError(f"{path.name}: a mosaic, many slices in one image (Siemens); dcm2niix makes a volume of it")
        kind, stored = str(data.PhotometricInterpretation).strip().upper(), _stored(data)
        if kind not in GREY + COLOURED:
            raise DataError(f"{path.name}: its photometric interpretation {kind} is not read; save it as MONOCHROME2")
        pixels, coloured = (_grey(data, stored), False) if kind in GREY else _luminance(data, stored)
        pixels = np.asarray(pixels, np.float32)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path.name}: holds NaN or infinite values after rescaling")
    return pixels, (COLOUR,) if coloured else ()


def _tags(path: Path, pixels: bool) -> pydicom.Dataset:
    with reading(path.name, what=NOT_WHOLE):
        try:
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError as error:
            with suppress(Exception):  # of all kinds: it may be anything
                data = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)  # it may lack the preamble
                if "SOPClassUID" in data or "Rows" in data:
                    return data
            raise DataError(f"{path.name}: not a DICOM file") from error


def _stored(data: pydicom.Dataset) -> np.ndarray:
    """The pixels as stored, N×H×W or N×H×W×3; of YBR pydicom makes RGB."""
    if "TransferSyntaxUID" not in data.file_meta:
        if data["PixelData"].is_undefined_length:
            raise ValueError("compressed, and no Transfer Syntax UID says how")
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if "HighBit" in data and data.HighBit != data.BitsStored - 1:
        raise ValueError("its values are not in the lowest bits")
    frames = _whole(data.get("NumberOfFrames"), 1) or 1
    if data.file_meta.TransferSyntaxUID.startswith(JPEG) and data.PixelData.count(JPEG_END) < frames:
        raise ValueError("truncated, a JPEG without its end")
    depth = (data.SamplesPerPixel,) if data.SamplesPerPixel > 1 else ()
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns, *depth)
    if len(pixels) != frames:
        raise ValueError(f"{len(pixels)} frames, and a tag says {frames}")
    return pixels


def _luminance(data: pydicom.Dataset, pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Coloured pixels as grey ones, and whether there is a colour in them."""
    rgb = (pixels if pixels.ndim == 4 else apply_color_lut(pixels, data))[..., :3]
    most = 255 if rgb.dtype == np.uint8 else rgb.max()
    luminance = rgb @ np.array([0.299, 0.587, 0.114])  # BT.601, as `preprocess.decode` has it
    return luminance, bool(np.ptp(rgb, axis=-1).max() > COLOURLESS / 255 * most)


def _grey(data: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    shared = list(data.get("SharedFunctionalGroupsSequence") or [])
    own = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    if len(own) != len(stored) and any("PixelValueTransformationSequence" in group for group in own):
        raise ValueError(f"{len(stored)} frames, and tags of {len(own)}")
    frames = []
    for i, frame in enumerate(stored):
        said = [group.get("PixelValueTransformationSequence") for group in own[i : i + 1] + shared]
        frames.append(apply_rescale(frame, next((sequence[0] for sequence in said if sequence), data)))
    pixels = np.asarray(frames, np.float64)
    if str(data.PhotometricInterpretation).strip().upper() == "MONOCHROME1":
        pixels = pixels.max() + pixels.min() - pixels
    if (first := data.get("PixelPaddingValue")) is not None:
        last = data.get("PixelPaddingRangeLimit")
        ends = np.array([first, first if last is None else last]).astype(stored.dtype)  # some are of the other sign
        padding = (stored >= ends.min()) & (stored <= ends.max())
        if not padding.all():
            pixels[padding] = pixels[~padding].min()
    return pixels


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


def _frames(data: pydicom.Dataset) -> list[tuple[str, float]]:
    """Of each frame of an enhanced file, or of all others as a whole: what its stack is known by, and where it lies
    along the normal of its plane, in mm, NaN where nothing says it."""
    shared, found = list(data.get("SharedFunctionalGroupsSequence") or []), []
    for own in list(data.get("PerFrameFunctionalGroupsSequence") or []) or shared or [()]:
        tags = {name: data.get(name) for name in STACK + PLACE}
        for group in (entry.value[0] for of in (*shared, own) for entry in of if entry.VR == "SQ" and entry.value):
            tags |= {name: group.get(name) for name in STACK + PLACE if name in group}
        stack = [str(tags[name] or "") for name in STACK]
        try:
            normal = np.cross(*np.array(tags["ImageOrientationPatient"], float).reshape(2, 3))
            position = float(normal @ np.array(tags["ImagePositionPatient"], float))
            found.append((str([(normal.round(2) + 0.0).tolist(), *stack]), position))
        except (TypeError, ValueError):
            found.append((str(stack), float("nan")))
    return found
