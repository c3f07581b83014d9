"""From a publisher's file to a square image: decode, crop to the head, resize.

Functions of arrays. `packing.py` runs them over a whole set; `sources/layouts.py` knows which files a set has.
"""

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.catalog import DataError

# Rule → share of the largest contour's area from which on another contour widens the box, see `margin_box`.
CROPS = {"margin": 0.01, "s2": 1.0, "none": None}


MAX_PIXELS = 100_000_000  # a slice has well under a million; more is a decompression bomb


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class RawImage:
    """One image as read: `image` H×W uint8, or H×W×C for several sequences; `mask` uint8 0/1 H×W×M; `facts` for its
    manifest row.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def decode(source: str | Path | bytes) -> np.ndarray:
    """Decode a JPEG or PNG file, or its bytes, wholly to a grey image, uint8 H×W.

    The EXIF orientation is applied.  Colour becomes BT.601 luminance, as by S2's `cvtColor`; images of more
    than 8 bits are scaled by `to_uint8`.  Raises `DataError`, which names the file where one was given, for
    anything but one whole image: text under an image's name, a truncated file, a decompression bomb.
    """
    if not isinstance(source, bytes):
        try:
            return decode(Path(source).read_bytes())
        except (DataError, OSError) as error:
            raise DataError(f"{source}: {error}; take the file from its publisher again") from error
    try:
        with Image.open(io.BytesIO(source)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{picture.width}×{picture.height} pixels are too many for a slice")
            return _grey(picture)
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"not a whole image ({error})") from error


def _grey(picture: Image.Image) -> np.ndarray:
    picture.draft("L", picture.size)  # a JPEG's luminance plane as stored: half the time of RGB and back
    picture.load()  # Pillow's loader refuses a truncated JPEG; OpenCV's fills the rest with grey
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return to_uint8(np.asarray(picture))
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Scale an image of any numeric type to uint8 by its own minimum and maximum; a constant image becomes 0.

    MR intensities have no unit and each slice was exported with its own window: no common range to keep.
    """
    if not np.isfinite(image).all():
        raise DataError("image holds NaN or infinite values")
    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled).astype(np.uint8)


def margin_box(image: np.ndarray, share: float = CROPS["margin"]) -> Box:
    """Find the head in a grey uint8 image; return `(top, bottom, left, right)`, ends exclusive.

    S2's steps: Gaussian 3×3, threshold 45, erode twice, dilate twice, outer contours, extremes.  S2 kept the
    largest contour alone (`share=1`).  In a dim slice the head falls apart at that threshold and the largest
    piece is a scrap of it: on Cheng's 3,064 slices S2's box cuts into the tumour in 58, misses it wholly in
    14.  Here every contour of at least `share` of the largest one's area counts: 1 and 0, while the box stays
    nearly as tight (median 64 % of the image against 61 %) and still leaves out the letters on some scans.
    Also, S2 sliced with the last row and column as ends and so lost them, and stopped with an error where it
    found no contour; here that, as in a black slice, gives the whole image.
    """
    height, width = image.shape
    bright = cv2.threshold(cv2.GaussianBlur(image, (3, 3), 0), 45, 255, cv2.THRESH_BINARY)[1]
    opened = cv2.dilate(cv2.erode(bright, None, iterations=2), None, iterations=2)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0, height, 0, width
    areas = [cv2.contourArea(contour) for contour in contours]
    large = [c for c, area in zip(contours, areas, strict=True) if area >= share * max(areas)]
    left, top, w, h = cv2.boundingRect(np.concatenate(large))
    return top, top + h, left, left + w


def crop_and_resize(image: np.ndarray, box: Box, size: int, nearest: bool = False) -> np.ndarray:
    """Cut `box` out of an H×W or H×W×C array of any type and resize it to `size`×`size`; `nearest` for masks.

    As in S2 both sides are stretched to `size`, so the aspect ratio is not kept.  Shrinking averages over
    areas, since bilinear interpolation would skip pixels.
    """
    top, bottom, left, right = box
    part = image[top:bottom, left:right]
    shrinks = min(part.shape[:2]) >= size
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(part, (size, size), interpolation=how)
    return resized.reshape(size, size, *image.shape[2:])  # OpenCV drops a channel axis of length one


def prepare(picture: RawImage, size: int, crop: str = "margin") -> RawImage:
    """Crop by a rule of `CROPS` and resize, an image and its mask alike; facts are passed on."""
    height, width = picture.image.shape[:2]
    share = CROPS[crop]
    box = (0, height, 0, width) if share is None else margin_box(picture.image, share)
    mask = None if picture.mask is None else crop_and_resize(picture.mask, box, size, nearest=True)
    return RawImage(crop_and_resize(picture.image, box, size), mask, picture.facts)
