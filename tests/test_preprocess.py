"""From a publisher's file to a stored image: what is decoded, what refused, where the crop falls, the packing."""

import hashlib
import io
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets import catalog
from datasets.catalog import DataError
from datasets.sources import layouts, unpacking
from datasets.store import packing, preprocess
from datasets.store.preprocess import RawImage

RAMP = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RAMP), "JPEG", exif=exif, quality=95)


COLOUR = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=2)
LUMINANCE = np.rint(COLOUR @ [0.299, 0.587, 0.114])
READABLE = {
    "grey JPEG": (encoded(Image.fromarray(RAMP), "JPEG", quality=95), RAMP, 3),
    "colour JPEG": (encoded(Image.fromarray(COLOUR), "JPEG", quality=95, subsampling=0), LUMINANCE, 4),
    "colour PNG": (encoded(Image.fromarray(COLOUR)), LUMINANCE, 1),
    "palette PNG": (encoded(Image.fromarray(RAMP).convert("P")), RAMP, 1),
    "PNG with alpha": (encoded(Image.fromarray(RAMP).convert("RGBA")), RAMP, 0),
    "16-bit PNG": (encoded(Image.fromarray(RAMP.astype(np.uint16) * 16 + 1000)), RAMP, 0),
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


def bomb() -> bytes:
    """A PNG of a few bytes that declares 60,000 × 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


JPEG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"404: not found", "not an image"),
        (b"", "not an image"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-200], "truncated"),
        (encoded(Image.fromarray(RAMP))[:-40], "not a whole image"),
        (bomb(), "pixels"),
    ],
    ids=["text", "empty", "half a JPEG", "JPEG without its end", "PNG without its end", "bomb"],
)
def test_what_is_no_whole_image_is_refused_with_its_name(content, reason, tmp_path):
    path = tmp_path / "Tr-gl_0010.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        preprocess.decode(path)
    assert str(path) in str(error.value)
    assert "publisher" in str(error.value)


PROGRESSIVE = encoded(Image.fromarray(RAMP), "JPEG", progressive=True)


@pytest.mark.parametrize("lacking", [1, 2], ids=["half the end marker", "the end marker"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_whole_and_noted(lacking):
    image, remarks = preprocess.examine(JPEG[:-lacking])
    assert np.array_equal(image, preprocess.decode(JPEG))
    assert remarks == (preprocess.NO_END,)
    assert preprocess.examine(JPEG)[1] == ()


@pytest.mark.parametrize("lacking", [3, 4, 6, 20])
def test_a_jpeg_that_lacks_pixels_is_refused(lacking):
    with pytest.raises(DataError, match="not a whole image"):
        preprocess.decode(JPEG[:-lacking])


def test_a_progressive_jpeg_without_its_end_is_refused():
    with pytest.raises(DataError, match="not a whole image"):
        preprocess.decode(PROGRESSIVE[:-2])


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "BMP"])
def test_other_kinds_of_file_are_read(kind):
    image = preprocess.decode(encoded(Image.fromarray(RAMP), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.abs(image.astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_several_images_in_one_file_are_refused(kind):
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    with pytest.raises(DataError, match="2 images in one file"):
        preprocess.decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


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


def scene(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """A black 200×200 image with bright boxes (top, bottom, left, right, value)."""
    image = np.zeros((200, 200), np.uint8)
    for top, bottom, left, right, value in boxes:
        image[top:bottom, left:right] = value
    return image


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
    found = np.array([top, bottom, left, right])
    assert np.abs(found - expected).max() <= 1  # the Gaussian moves an edge by up to one pixel
    assert 0 <= top < bottom <= image.shape[0]
    assert 0 <= left < right <= image.shape[1]


def test_s2_rule_keeps_only_the_largest_piece():
    image = BOXES["head in pieces"][0]
    assert preprocess.margin_box(image, preprocess.CROPS["s2"])[1] <= 81
    assert preprocess.margin_box(image)[1] >= 159


@pytest.mark.parametrize("crop", preprocess.CROPS)
def test_a_mask_is_cropped_like_its_image_and_stays_binary(crop):
    mask = (scene((60, 100, 80, 120, 1)) > 0)[..., None].astype(np.uint8)
    image = scene(HEAD)
    image[mask[..., 0] > 0] = 250
    made = preprocess.prepare(RawImage(image, mask, {"pid": "1"}), 128, crop)
    assert made.image.shape == (128, 128)
    assert made.mask.shape == (128, 128, 1)
    assert made.facts == {"pid": "1"}
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


def test_a_mask_smaller_than_a_stored_pixel_is_not_lost():
    mask = np.zeros((400, 400, 2), np.uint8)
    mask[201:203, 202:203, 0] = 1
    made = preprocess.prepare(RawImage(np.full((400, 400), 90, np.uint8), mask), 40, "none")
    assert np.argwhere(made.mask[..., 0]).tolist() == [[20, 20]] and not made.mask[..., 1].any()
    assert made.remarks == (preprocess.TINY_MASK,)


def test_an_inverted_image_is_noted():
    assert preprocess.prepare(RawImage(255 - scene(HEAD)), 64).remarks[0] == preprocess.INVERTED
    assert preprocess.INVERTED not in preprocess.prepare(RawImage(scene(HEAD)), 64).remarks
    assert preprocess.INVERTED not in preprocess.prepare(RawImage(scene((0, 200, 0, 200, 90))), 64).remarks


def test_a_stored_image_or_mask_that_changed_on_disk_is_not_read(files):
    _, _, target = packed(files, workers=1)
    for name, row in (("image", 3), ("mask", 7)):
        spoil_chunk(target, name, row)
        with h5py.File(target) as store, pytest.raises(OSError):
            store[name][row]


def spoil_chunk(path: Path, name: str, row: int) -> None:
    """Change one byte of the chunk of an image or mask."""
    with h5py.File(path) as store:
        data = store[name]
        chunk = data.id.get_chunk_info_by_coord((row, *[0] * (data.ndim - 1)))
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)


def test_shrinking_averages_and_keeps_the_grey_level():
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 200
    small = preprocess.crop_and_resize(checks.astype(np.uint8), (0, 256, 0, 256), 64)
    assert small.min() == small.max() == 100


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(40):
        picture = scene((20 + i, 150, 30, 180 - i, 160))[: 120 + i] + rng.integers(0, 20, dtype=np.uint8)
        (folder / f"{i:02}.png").write_bytes(encoded(Image.fromarray(picture)))
    (folder / "17.png").write_text("not an image")
    return folder


def read(folder: Path, path: str) -> list[RawImage]:
    image = preprocess.decode((folder / path).read_bytes())
    return [RawImage(image, (image[..., None] > 100).astype(np.uint8), {"height": len(image)})]


def packed(files: Path, workers: int):
    paths = sorted(p.name for p in files.iterdir())
    target = files.parent / f"{workers}.h5"
    stored, broken = packing.pack(partial(read, files), paths, target, size=64, workers=workers)
    return stored, broken, target


def test_packing_keeps_the_order_and_leaves_broken_images_out(files):
    stored, broken, target = packed(files, workers=1)
    assert [row["path"] for row in stored] == [f"{i:02}.png" for i in range(40) if i != 17]
    assert broken == [{"path": "17.png", "reason": "not an image"}]
    with h5py.File(target) as store:
        assert store["image"].shape == (39, 64, 64)
        assert store["image"].chunks == (1, 64, 64)
        assert store["mask"].shape == (39, 64, 64, 1)
        assert dict(store.attrs) == {"size": 64, "crop": "margin", "version": packing.VERSION}
        for row in (0, 16, 17, 38):
            alone = preprocess.prepare(read(files, stored[row]["path"])[0], 64)
            assert np.array_equal(store["image"][row], alone.image)
            assert np.array_equal(store["mask"][row], alone.mask)


def test_packing_gives_the_same_bytes_on_one_core_and_on_two(files):
    digests = [hashlib.sha256(packed(files, n)[2].read_bytes()).digest() for n in (1, 2)]
    assert digests[0] == digests[1]


def die(path: str) -> list[RawImage]:
    os._exit(9)


def test_a_killed_worker_is_an_error_with_a_remedy(tmp_path):
    paths = [str(i) for i in range(2 * packing.BATCH)]
    with pytest.raises(DataError, match="--workers 1"):
        packing.pack(die, paths, tmp_path / "images.h5", size=64, workers=2)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_crop_spares_the_tumours_that_s2_cut(tmp_path):
    archives = os.environ.get("BRAIN_MRI_ARCHIVES")
    if not archives:
        pytest.skip("BRAIN_MRI_ARCHIVES names no folder with the real archives")
    cheng = catalog.get("cheng")
    unpacking.unpack(cheng, Path(archives) / cheng.archive, tmp_path / "raw")
    cut = dict.fromkeys(("margin", "s2"), 0)
    for sample in layouts.samples(cheng, tmp_path / "raw"):
        (picture,) = layouts.read(cheng, tmp_path / "raw", sample.path)
        for rule in cut:
            top, bottom, left, right = preprocess.margin_box(picture.image, preprocess.CROPS[rule])
            cut[rule] += int(picture.mask[top:bottom, left:right].sum() < picture.mask.sum())
    print(f"slices of 3,064 whose tumour the crop touches: {cut}")
    assert cut["margin"] <= 2
    assert cut["s2"] >= 30
