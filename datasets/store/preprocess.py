"""Turns a publisher's file into what a model receives: decoded, cropped to the head, resized, seen in a view.

`prepare` makes what is packed, `as_input` what is read from it; `Preparation` does both, on an image of no data set.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from datasets.catalog import CROPS, DataError, lookup
from datasets.reading import one_line, quiet
from datasets.transforms import VIEWS, clahe, level, undo

MAX_PIXELS = 100_000_000  # a slice has well under a million; more is a decompression bomb
MAX_SIDE = 20_000  # a line of 99 million pixels is decoded for twelve seconds
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # EPS would start a program
PNG, JPEG_END = b"\x89PNG", b"\xff\xd9"  # the first bytes of a file, and a mark that no pixel has
COLOURLESS = 16  # grey values between the channels of an image that is grey all the same: JPEG rounds each of them

# What `prepare` and `examine` say of an image besides its pixels; `manifest.summary` counts them over a set.
EMPTY_MASK, INVERTED, CROPPED, WIDENED = "empty mask", "looks inverted", "cropped", "crop widened to hold the mask"
COLOUR = "colour made grey"
REMARKS = (EMPTY_MASK, INVERTED, CROPPED, WIDENED, COLOUR)

# On a card: how `crop_and_resize` resizes, and how the tasks' `inputs` make numbers of pixel values.
INTERPOLATION = "area where it shrinks, bilinear where it enlarges"
UNIT, MINMAX = "grey values / 255", "each slice and channel by its own minimum and maximum to [0, 1]"
SCALINGS = {UNIT: "Classification", MINMAX: "Segmentation"}

Box = tuple[int, int, int, int]  # top, bottom, left, right, ends exclusive


@dataclass(frozen=True)
class RawImage:
    """One image as read: `image` H×W uint8, or H×W×C for several sequences; `mask` uint8 0/1 H×W×M; `facts` for its
    manifest row; `remarks` on it, some of `REMARKS`.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def decode(source: str | Path | bytes) -> np.ndarray:
    """Decode an image file, or its bytes, wholly to a grey image, uint8 H×W.

    The EXIF orientation is applied.  What is transparent becomes black, by as much.  Colour becomes BT.601 luminance,
    as by S2's `cvtColor`; images of more than 8 bits are scaled by `to_uint8`.  Raises `DataError`, which names the
    file where one was given, for text under an image's name, a truncated file, several images in one file, an image
    that is wholly transparent, a decompression bomb.
    """
    try:
        return examine(source if isinstance(source, bytes) else Path(source).read_bytes())[0]
    except (DataError, OSError) as error:
        if isinstance(source, bytes):
            raise
        raise DataError(f"{source}: {error}; take the file from its publisher again") from error


@quiet()
def examine(content: bytes, channels: int = 1, look_for_colour: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode the bytes of an image to uint8 H×W, or H×W×C where `channels` are more, and say what is remarkable of it.

    `look_for_colour`: whether to remark that a grey image was made of colours, which takes a JPEG twice the time.
    Raises `DataError` as `decode`, where the number of channels is another, and where a PNG's checksums or the end of a
    JPEG say that it is damaged; other formats hold nothing that would tell.
    """
    try:
        if content.startswith(PNG):  # its checksums: those of pixels are not looked at as it is read
            Image.open(io.BytesIO(content), formats=FORMATS).verify()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format == "JPEG" and content.find(JPEG_END, image.fp.tell()) < 0:  # behind where its pixels begin
                raise DataError("not a whole image (truncated, a JPEG without its end)")  # as one that zeros fill up
            return _decoded(image, channels, look_for_colour)
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    except DataError:
        raise
    except Exception as error:  # of all kinds, as in `reading`; whoever lists broken files names this one
        raise DataError(f"not a whole image ({one_line(error)})") from error


def _decoded(image: Image.Image, channels: int, look_for_colour: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise DataError(f"{image.width}×{image.height} pixels are too many for a slice")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a photograph and its preview
        raise DataError(f"{image.n_frames} images in one file; save each as a file of its own")
    if channels == 1 and not look_for_colour:
        image.draft("L", image.size)  # a JPEG's luminance plane as stored: half the time of RGB and back
    if len(image.getbands()) > 1 and any(";16" in str(tile.args) for tile in image.tile):
        raise DataError("of 16 bits in several channels, of which Pillow reads 8; save it in one channel, or in 8 bits")
    image.load()  # Pillow's loader refuses a truncated JPEG; OpenCV's fills the rest with grey
    ImageOps.exif_transpose(image, in_place=True)
    if channels == 1 or "A" not in image.getbands():  # of several channels the fourth is no transparency
        image = _on_black(image)
    if channels > 1:
        pixels = np.asarray(image.convert("RGB") if image.mode in ("P", "YCbCr") else image)
        found = pixels.shape[2] if pixels.ndim == 3 else 1
        if found != channels:
            raise DataError(f"holds {found} channels, not {channels}")
        return pixels, ()
    has_colours = look_for_colour and (image.mode == "P" or len(image.getbands()) >= 3)
    is_coloured = has_colours and int(np.ptp(np.asarray(image.convert("RGB")), axis=2).max()) > COLOURLESS
    remarks = (COLOUR,) if is_coloured else ()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
            pixels = -pixels.astype(np.float64)  # 0 is white, which Pillow sees to in 8 bits alone
        return to_uint8(pixels), remarks
    return np.asarray(image if image.mode == "L" else image.convert("L")), remarks


def _on_black(image: Image.Image) -> Image.Image:
    """An image with transparency as it looks on black, which is what air is in an MR image; others as they are."""
    if not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # one of its 16-bit values is transparent
        pixels = np.array(image)
        clear = pixels == image.info["transparency"]
        if not clear.all():
            pixels[clear] = pixels[~clear].min()
            return Image.fromarray(pixels)
    else:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        low, high = alpha.getextrema()
        if low == 255:
            return image.convert("RGB")
        if high:
            return ImageChops.multiply(image.convert("RGB"), Image.merge("RGB", [alpha] * 3))
    raise DataError("every pixel is transparent; save it without transparency")


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
    largest contour alone (`share=1`), a scrap of the head in a dim slice: on Cheng's 3,064 slices its box cuts into
    the tumour in 58, misses it wholly in 14.  Here every contour of at least `share` of the largest one's area counts:
    1 and 0, while the box stays nearly as tight (median 64 % of the image against 61 %) and leaves out letters.
    S2 lost the last row and column, and stopped with an error without a contour; here that gives the whole image.
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


def inside_head(image: np.ndarray) -> np.ndarray:
    """Which pixels of an image H×W or H×W×C uint8 are no background, bool H×W.

    Background is what is 0, in one of several sequences at least, and not enclosed by what is not: around a head freed
    of its skull all of it, where air holds noise nothing.
    """
    seen = (image if image.ndim == 2 else image.min(axis=2)) > 0
    contours, _ = cv2.findContours(seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros(seen.shape, np.uint8), contours, -1, 1, cv2.FILLED).astype(bool)


def crop_box(image: np.ndarray, crop: str) -> Box:
    """The box of an image H×W or H×W×C uint8 by a rule of `CROPS`; the whole image where it has none."""
    grey = image if image.ndim == 2 else image.max(axis=2)
    return (0, grey.shape[0], 0, grey.shape[1]) if CROPS[crop] is None else margin_box(grey, CROPS[crop])


def crop_and_resize(image: np.ndarray, box: Box | None, size: int, nearest: bool = False) -> np.ndarray:
    """Cut `box` (None: all) out of an H×W or H×W×C array and resize it to `size`×`size`; `nearest` for masks.

    As in S2 the aspect ratio is not kept.  Shrinking averages over areas: bilinear interpolation would skip pixels.
    """
    if box:
        image = image[box[0] : box[1], box[2] : box[3]]
    shrinks = min(image.shape[:2]) >= size
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (size, size), interpolation=method)
    return resized.reshape(size, size, *image.shape[2:])  # OpenCV drops a channel axis of length one


def put_back(plane: np.ndarray, box: Box, shape: Sequence[int], nearest: bool = False) -> np.ndarray:
    """A plane S×S, cut and resized as by `crop_and_resize`, back at its place `box` in an image of that `shape`,
    H×W[×C]: H×W, 0 outside the box; `nearest` for masks."""
    top, bottom, left, right = box
    whole = np.zeros(shape[:2], plane.dtype)
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    whole[top:bottom, left:right] = cv2.resize(plane, (right - left, bottom - top), interpolation=method)
    return whole


def looks_inverted(grey: np.ndarray) -> bool:
    """Whether the air around the head seems white: three corners of an image H×W bright, and brighter than the whole.
    A hint, no proof: a white frame looks the same."""
    side = max(1, min(grey.shape) // 16)
    ends = (slice(None, side), slice(-side, None))
    corners = np.array([grey[rows, columns].mean() for rows in ends for columns in ends])
    return int((corners > max(np.iinfo(grey.dtype).max / 2, grey.mean())).sum()) >= 3


def prepare(raw: RawImage, size: int, crop: str = "margin") -> RawImage:
    """Crop by a rule of `CROPS` and resize, an image and its mask alike; facts are passed on, remarks are added.

    A mask is never cut: where the rule would cut it, the box is widened to hold it, and `WIDENED` says so.
    """
    grey = raw.image if raw.image.ndim == 2 else raw.image.max(axis=2)
    box = by_rule = crop_box(raw.image, crop)
    remarks, mask = [*raw.remarks], raw.mask
    if looks_inverted(grey):
        remarks.append(INVERTED)
    if mask is not None:
        marked = mask.any(axis=2)
        rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
        if len(rows):
            top, bottom, left, right = box
            box = (min(top, int(rows[0])), max(bottom, int(rows[-1]) + 1))
            box += (min(left, int(columns[0])), max(right, int(columns[-1]) + 1))
        else:
            remarks.append(EMPTY_MASK)
        mask = crop_and_resize(mask, box, size, nearest=True)
    if box != (0, grey.shape[0], 0, grey.shape[1]):
        remarks.append(CROPPED)
    if box != by_rule:
        remarks.append(WIDENED)
    return RawImage(crop_and_resize(raw.image, box, size), mask, raw.facts, tuple(remarks))


def as_input(image: np.ndarray, side: int, view: str = "stored", turn: str = "upright") -> np.ndarray:
    """A packed image H×W×C as a model receives it, C×side×side of the same type.

    `view`: key of `VIEWS`, what is done before it is resized; `turn`: how the publisher turned it, a key of
    `transforms.TRANSFORMS`, which the view "upright" undoes.
    """
    if view == "upright":
        image = undo(image, turn)
    elif view in ("levelled", "clahe"):
        change = level if view == "levelled" else clahe
        image = np.stack([change(plane) for plane in np.moveaxis(image, 2, 0)], axis=2)
    return crop_and_resize(np.ascontiguousarray(image), None, side).transpose(2, 0, 1)


@dataclass(frozen=True)
class Preparation:
    """What was done to the images that a model was trained on, as its card says: `Preparation.of_card(card["input"])`.

    Raises `DataError` for a value that this version does not know.
    """

    channels: tuple[str, ...]  # sequences, in order; one channel is a grey image
    crop: str  # this and the next: arguments of `prepare`
    stored_size: int
    view: str  # this and the next: arguments of `as_input`
    size: int
    interpolation: str = INTERPOLATION  # there is no other
    scaling: str = UNIT  # key of `SCALINGS`

    def __post_init__(self):
        lookup(CROPS, self.crop, "crop")
        lookup(VIEWS, self.view, "view")
        lookup(SCALINGS, self.scaling, "scaling")
        lookup({INTERPOLATION: None}, self.interpolation, "interpolation")

    @classmethod
    def of_card(cls, entries: Mapping[str, Any]) -> "Preparation":
        """The `input` of a card; raises `DataError` where an entry is missing or unknown."""
        names = cls.__dataclass_fields__.keys()
        if set(entries) != names:
            raise DataError(f"the card's input has {sorted(entries)}; this version reads {sorted(names)}")
        return cls(**{**entries, "channels": tuple(entries["channels"])})

    def as_card(self) -> dict[str, Any]:
        """The entries of a card's `input`."""
        return {**asdict(self), "channels": list(self.channels)}

    def __call__(self, raw: RawImage) -> np.ndarray:
        """An image H×W, or H×W×C with the channels of this preparation → C×size×size, as in training.

        Nobody has outlined its tumour, so that its crop is never widened, nor said how it is turned.
        """
        packed = prepare(raw, self.stored_size, self.crop).image
        return as_input(packed if packed.ndim == 3 else packed[..., None], self.size, self.view)
