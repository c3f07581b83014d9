"""From a publisher's file to a square image: decoding, refusals, and the crop to the head."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
from archives import encoded
from PIL import Image
from scenes import scene

from datasets import catalog
from datasets.catalog import DataError
from datasets.reading import quiet
from datasets.sources import layouts
from datasets.store import preprocess
from datasets.store.preprocess import RawImage

RAMP = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RAMP), "JPEG", exif=exif, quality=95)


COLOUR = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=2)
LUMINANCE = np.rint(COLOUR @ [0.299, 0.587, 0.114])
SEEN = np.zeros_like(RAMP)  # how much of each pixel: nothing above, half in the middle, all below
SEEN[20:40], SEEN[40:] = 128, 255
HIDDEN = np.rint(RAMP * (SEEN / 255))
CLEAR = np.where(RAMP.max() == RAMP, 0, RAMP)  # of a value that is transparent


def with_alpha(mode: str, kind: str = "PNG") -> bytes:
    """The ramp with `SEEN` as its alpha channel."""
    pixels = Image.fromarray(RAMP).convert(mode)
    pixels.putalpha(Image.fromarray(SEEN))
    return encoded(pixels, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))


READABLE = {
    "RGBA": (with_alpha("RGB"), HIDDEN, 1),
    "LA": (with_alpha("L"), HIDDEN, 1),
    "RGBA in a TIFF": (with_alpha("RGB", "TIFF"), HIDDEN, 1),
    "RGBA in a WebP": (with_alpha("RGB", "WEBP"), HIDDEN, 1),
    "a transparent grey value": (encoded(Image.fromarray(RAMP), transparency=255), CLEAR, 0),
    "a transparent colour": (encoded(Image.fromarray(RAMP).convert("RGB"), transparency=(255,) * 3), CLEAR, 0),
    "a transparent entry of a palette": (encoded(Image.fromarray(RAMP), "GIF", transparency=255), CLEAR, 0),
    "a transparent value of 16 bits": (
        encoded(Image.fromarray(RAMP.astype(np.uint16) * 16 + 1000), transparency=255 * 16 + 1000),
        np.rint(CLEAR * (255 / CLEAR.max())),
        0,
    ),
    "grey JPEG": (encoded(Image.fromarray(RAMP), "JPEG", quality=95), RAMP, 3),
    "colour JPEG": (encoded(Image.fromarray(COLOUR), "JPEG", quality=95, subsampling=0), LUMINANCE, 4),
    "colour PNG": (encoded(Image.fromarray(COLOUR)), LUMINANCE, 1),
    "palette PNG": (encoded(Image.fromarray(RAMP).convert("P")), RAMP, 1),
    "PNG with alpha": (encoded(Image.fromarray(RAMP).convert("RGBA")), RAMP, 0),
    "16-bit PNG": (encoded(Image.fromarray(RAMP.astype(np.uint16) * 16 + 1000)), RAMP, 0),
    "16-bit TIFF in which 0 is white": (
        encoded(Image.fromarray(RAMP.astype(np.uint16) * 16), "TIFF").replace(
            struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 0)
        ),
        255 - RAMP,
        0,
    ),
    "one pixel": (encoded(Image.fromarray(RAMP[:1, 5:6])), RAMP[:1, 5:6], 0),
    "turned by EXIF": (turned(6), np.rot90(RAMP, -1), 3),
}


@pytest.mark.parametrize("case", READABLE)
def test_every_kind_of_image_decodes_to_grey(case, tmp_path):
    content, expected, tolerance = READABLE[case]
    image = preprocess.decode(content)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance
    (tmp_path / "a").write_bytes(content)
    assert np.array_equal(preprocess.decode(tmp_path / "a"), image)


def png(width: int, height: int, content: bytes) -> bytes:
    """A PNG that declares so many pixels, whatever its content."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


JPEG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)), "JPEG")


NOT_WHOLE = {
    "text": (b"404: not found", "not an image"),
    "empty": (b"", "not an image"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "JPEG cut": (JPEG[:-2], "truncated"),
    "PNG cut": (encoded(Image.fromarray(RAMP))[:-40], "not a whole image"),
    "clear": (encoded(Image.new("LA", (8, 8), (200, 0))), "every pixel is transparent"),
    "clear, 16 bits": (encoded(Image.new("I;16", (8, 8), 300), transparency=300), "every pixel is transparent"),
    "bomb": (png(60_000, 60_000, b""), "pixels"),
    "a line": (png(99_000_000, 1, bytes(99_000_001)), "99000000×1 pixels are too many for a slice"),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_what_is_no_whole_image_is_refused_with_its_name(case, tmp_path):
    content, reason = NOT_WHOLE[case]
    path = tmp_path / "Tr-gl_0010.jpg"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(DataError, match=reason) as error:
        preprocess.decode(path)
    assert str(path) in str(error.value) and "publisher" in str(error.value) and time.process_time() - began < 2


def test_what_a_library_in_c_prints_of_a_damaged_file_is_not_heard(capfd):
    content = encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_deflate")
    with pytest.raises(DataError, match="not a whole image"):
        preprocess.examine(content[:40] + bytes(40) + content[80:])
    assert capfd.readouterr() == ("", "")
    first, second = quiet(), quiet()
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None), second.__exit__(None, None, None)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard", "also where two threads overlapped"


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_several_images_in_one_file_are_refused(kind):
    several = encoded(Image.fromarray(RAMP), kind, save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    with pytest.raises(DataError, match="2 images in one file"):
        preprocess.decode(several)


def test_channels_are_kept_where_asked_and_colour_made_grey_is_noted():
    content = encoded(Image.fromarray(COLOUR))
    image, remarks = preprocess.examine(content, channels=3)
    assert np.array_equal(image, COLOUR) and remarks == ()
    assert preprocess.examine(content, look_for_colour=True)[1] == (preprocess.COLOUR,)
    for content in (encoded(Image.fromarray(RAMP).convert("RGB"), "JPEG"), encoded(Image.fromarray(RAMP))):
        assert preprocess.examine(content, look_for_colour=True)[1] == ()
    with pytest.raises(DataError, match="holds 1 channels, not 3"):
        preprocess.examine(encoded(Image.fromarray(RAMP)), channels=3)


def test_more_than_eight_bits_are_scaled_by_their_own_range():
    assert preprocess.to_uint8(np.array([[-100, 0, 155]], np.int16)).tolist() == [[0, 100, 255]]
    assert preprocess.to_uint8(np.full((2, 2), 7.5)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(DataError, match="NaN"):
        preprocess.to_uint8(np.array([[0, np.nan]]))


def test_background_is_what_one_sequence_lacks_around_the_head_and_no_hole_in_it():
    ring = scene((20, 180, 20, 180, 90), (60, 140, 60, 140, 0))
    whole, wanted = np.full_like(ring, 50), scene((20, 180, 20, 180, 1)) > 0
    for image in (ring, np.stack([whole, ring], axis=2)):
        assert np.array_equal(preprocess.inside_head(image), wanted)
    assert preprocess.inside_head(whole).all() and not preprocess.inside_head(whole * 0).any()


HEAD = (40, 160, 60, 150, 120)
BOXES = {
    "head": (scene(HEAD), (40, 160, 60, 150)),
    "head and a letter": (scene(HEAD, (5, 13, 5, 13, 255)), (40, 160, 60, 150)),
    "head and noise below the threshold": (scene((0, 200, 0, 200, 30), HEAD), (40, 160, 60, 150)),
    "head in pieces": (scene((40, 80, 60, 150, 90), (120, 160, 70, 110, 90)), (40, 160, 60, 150)),
    "black": (scene(), (0, 200, 0, 200)),
    "white": (scene((0, 200, 0, 200, 255)), (0, 200, 0, 200)),
    "one pixel": (np.full((1, 1), 200, np.uint8), (0, 1, 0, 1)),
}


@pytest.mark.parametrize("case", BOXES)
def test_margin_box_encloses_the_head(case):
    image, expected = BOXES[case]
    top, bottom, left, right = preprocess.margin_box(image)
    assert np.abs(np.array([top, bottom, left, right]) - expected).max() <= 1  # the Gaussian may move an edge
    assert 0 <= top < bottom <= image.shape[0] and 0 <= left < right <= image.shape[1]
    if case == "head in pieces":
        assert preprocess.margin_box(image, preprocess.CROPS["s2"])[1] <= 81, "S2 keeps only the largest piece"


@pytest.mark.parametrize("crop", preprocess.CROPS)
def test_a_mask_is_cropped_like_its_image_and_stays_binary(crop):
    mask = (scene((60, 100, 80, 120, 1)) > 0)[..., None].astype(np.uint8)
    image = scene(HEAD)
    image[mask[..., 0] > 0] = 250
    made = preprocess.prepare(RawImage(image, mask, {"pid": "1"}), 128, crop)
    assert made.image.shape == (128, 128) and made.mask.shape == (128, 128, 1) and made.facts == {"pid": "1"}
    assert set(np.unique(made.mask)) == {0, 1}
    bright = made.image > 185
    overlap = 2 * (bright & (made.mask[..., 0] > 0)).sum() / (bright.sum() + made.mask.sum())
    assert overlap > 0.95


@pytest.mark.parametrize("crop", preprocess.CROPS)
@pytest.mark.parametrize("box", [(5, 15, 5, 15), (100, 170, 140, 190)], ids=["beside the head", "over its edge"])
def test_no_crop_cuts_a_mask(crop, box):
    mask = np.zeros((200, 200, 1), np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 1
    made = preprocess.prepare(RawImage(scene(HEAD), mask), 200, crop)
    alone = preprocess.prepare(RawImage(scene(HEAD), np.zeros_like(mask)), 200, crop)
    assert (preprocess.WIDENED in made.remarks) == (crop != "none")
    assert preprocess.WIDENED not in alone.remarks and preprocess.EMPTY_MASK in alone.remarks
    top, bottom, left, right = preprocess.margin_box(scene(HEAD), preprocess.CROPS[crop] or 1)
    if crop == "none":
        top, bottom, left, right = 0, 200, 0, 200
    area = (max(bottom, box[1]) - min(top, box[0])) * (max(right, box[3]) - min(left, box[2]))
    assert abs(made.mask.sum() * area / 200**2 / mask.sum() - 1) < 0.1, "the whole mask is there"


def test_an_inverted_image_is_noted():
    assert preprocess.prepare(RawImage(255 - scene(HEAD)), 64).remarks[0] == preprocess.INVERTED
    assert preprocess.INVERTED not in preprocess.prepare(RawImage(scene(HEAD)), 64).remarks
    assert preprocess.INVERTED not in preprocess.prepare(RawImage(scene((0, 200, 0, 200, 90))), 64).remarks


def test_shrinking_averages_and_keeps_the_grey_level():
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 200
    small = preprocess.crop_and_resize(checks.astype(np.uint8), (0, 256, 0, 256), 64)
    assert small.min() == small.max() == 100


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_crop_spares_the_tumours_that_s2_cut(real_sets):
    cheng, raw = catalog.get("cheng"), real_sets / "cheng/raw"
    cut = dict.fromkeys(("margin", "s2"), 0)
    for sample in list(layouts.samples(cheng, raw))[::4]:
        (slice_,) = layouts.read(cheng, raw, sample.path)
        for rule in cut:
            top, bottom, left, right = preprocess.margin_box(slice_.image, preprocess.CROPS[rule])
            cut[rule] += int(slice_.mask[top:bottom, left:right].sum() < slice_.mask.sum())
    assert cut["margin"] <= 1 and cut["s2"] >= 15, "of every fourth of 3,064 slices"
