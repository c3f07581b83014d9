"""DICOM files of every kind are read as they were made, or refused by name. All files are made here."""

from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from archives import encoded
from dicom_files import RAMP, compressed, dicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space

from datasets.catalog import DataError
from datasets.sources.dicom import examine, read_header
from datasets.sources.volumes import is_dicom

LOSSLESS = {  # GDCM's name → pydicom's
    "RLELossless": uid.RLELossless,
    "JPEG2000Lossless": uid.JPEG2000Lossless,
    "JPEGLosslessProcess14_1": uid.JPEGLosslessSV1,
    "JPEGLSLossless": uid.JPEGLSLossless,
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_losslessly_compressed_pixels_are_those_that_were_packed(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 40), dtype=np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, bits=12)
    compressed(path, getattr(gdcm.TransferSyntax, name))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == LOSSLESS[name]
    assert np.array_equal(examine(path)[0][0], pixels)


def with_jpeg(path: Path, jpeg: bytes, syntax: str, pixels: np.ndarray, bits: int) -> Path:
    """A file whose pixels are a JPEG."""
    data = pydicom.dcmread(dicom(path, pixels, bits=bits))
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([jpeg]), syntax
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    return path


def test_a_jpeg_inside_is_read_and_refused_where_it_is_not_whole_or_of_twelve_bits(tmp_path):
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    whole = encoded(Image.fromarray(grey), "JPEG", quality=95)
    assert np.abs(examine(with_jpeg(tmp_path / "a.dcm", whole, uid.JPEGBaseline8Bit, grey, 8))[0][0] - grey).max() < 4
    filled = whole[:-100].ljust(len(whole), b"\0")
    with pytest.raises(DataError, match="truncated, a JPEG without"):
        examine(with_jpeg(tmp_path / "b.dcm", filled, uid.JPEGBaseline8Bit, grey, 8))
    jpeg = b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x04\0\x06\x01\x01\x11\0\xff\xd9"
    path = with_jpeg(tmp_path / "c.dcm", jpeg, uid.JPEGExtended12Bit, RAMP.astype(np.uint16), 12)
    with pytest.raises(DataError, match=r"12-bit.*; if it is compressed, save it uncompressed"):
        examine(path)


def test_pixels_that_are_no_whole_numbers_are_read(tmp_path):
    path = dicom(tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, name)
    data.FloatPixelData, data.BitsAllocated = (RAMP / 8).astype("<f4").tobytes(), 32
    data.save_as(path)
    assert np.array_equal(examine(path)[0][0], RAMP / 8)


SIGNED = (RAMP - 1000).astype(np.int16)
COLOUR = np.stack([np.zeros((4, 6), np.uint8), np.full((4, 6), 200, np.uint8), np.zeros((4, 6), np.uint8)], axis=2)
INDEX = np.arange(24, dtype=np.uint8).reshape(4, 6)
TABLE = np.zeros((24, 3), np.uint8)
TABLE[:, 1] = np.arange(240, 0, -10)  # the higher the index, the less green
PALETTE = {"PhotometricInterpretation": "PALETTE COLOR"}
for name, entries in zip(("Red", "Green", "Blue"), TABLE.T, strict=True):
    PALETTE[f"{name}PaletteColorLookupTableDescriptor"] = [24, 0, 8]
    PALETTE[f"{name}PaletteColorLookupTableData"] = entries.tobytes()


def rescale(slope: float, intercept: float) -> Dataset:
    """The functional groups of an enhanced file, or of a frame in it, that say how values are rescaled."""
    values, groups = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = slope, intercept
    groups.PixelValueTransformationSequence = [values]
    return groups


PER_FRAME = {"PerFrameFunctionalGroupsSequence": [rescale(1, 0), rescale(4, 50)]}
SHARED = {"SharedFunctionalGroupsSequence": [rescale(3, 7)]}
PADDED = np.where(RAMP < 500, -2000, RAMP).astype(np.int16)
UNPADDED = np.maximum(RAMP, 500)
PLAIN = {
    "explicit": (RAMP, {}, RAMP[None]),
    "implicit": (RAMP, {"syntax": uid.ImplicitVRLittleEndian}, RAMP[None]),
    "signed": (SIGNED, {}, SIGNED[None]),
    "twelve bits": (RAMP.astype(np.uint16), {"bits": 12}, RAMP[None]),
    "rescaled": (RAMP, {"RescaleSlope": 2, "RescaleIntercept": -1024}, 2.0 * RAMP[None] - 1024),
    "the lowest value is white": (RAMP, {"PhotometricInterpretation": "MONOCHROME1"}, RAMP.max() - RAMP[None]),
    "frames": (np.stack([RAMP, RAMP + 1]), {}, np.stack([RAMP, RAMP + 1])),
    "colour": (COLOUR, {"bits": 8}, np.full((1, 4, 6), 0.587 * 200)),
    "YBR": (
        convert_color_space(COLOUR, "RGB", "YBR_FULL"),
        {"bits": 8, "PhotometricInterpretation": "YBR_FULL"},
        np.full((1, 4, 6), 0.587 * 200),
    ),
    "a palette": (INDEX, {"bits": 8, **PALETTE}, 0.587 * TABLE[INDEX, 1][None]),
    "each frame rescaled": (np.stack([RAMP, RAMP]), PER_FRAME, np.stack([RAMP, 4.0 * RAMP + 50])),
    "all frames rescaled": (np.stack([RAMP, RAMP]), SHARED, np.stack([3.0 * RAMP + 7] * 2)),
    "padded": (PADDED, {"PixelPaddingValue": -2000}, UNPADDED[None]),
    "padded by a range": (RAMP, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 400}, UNPADDED[None]),
    "padded and turned round": (
        PADDED,
        {"PixelPaddingValue": -2000, "PhotometricInterpretation": "MONOCHROME1"},
        np.where(RAMP < 500, -2000, 300 - RAMP)[None],
    ),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_pixels_are_read_as_they_are(tmp_path, case):
    pixels, how, wanted = PLAIN[case]
    path = dicom(tmp_path / "a.dcm", pixels, **how)
    found, _ = examine(path)
    assert found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-6, atol=1.5 if case == "YBR" else 0)
    assert read_header(path).frames == len(wanted)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Rows": None}, "a.dcm: its pixels cannot be decoded"),
        ({"PixelData": None}, "a.dcm: a DICOM file without image; leave it out"),
        ({"PixelData": b"\0\0"}, "a.dcm: its pixels cannot be decoded"),
        ({"RescaleSlope": "1e39", "RescaleIntercept": "0"}, "NaN or infinite"),
        ({"PhotometricInterpretation": "HSV"}, "interpretation HSV is not read; save it as MONOCHROME2"),
        ({"PerFrameFunctionalGroupsSequence": [rescale(1, 0)] * 2}, r"1 frames, and tags of 2"),
        ({"PixelData": 2 * RAMP.tobytes(), "NumberOfFrames": 1}, "2 frames, and a tag says 1"),
        ({"BitsStored": 12, "HighBit": 15}, "its values are not in the lowest bits"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, tags, said):
    with pytest.raises(DataError, match=said):
        examine(dicom(tmp_path / "a.dcm", **tags))
    (tmp_path / "a.dcm").write_text("404: not found")
    for read in (examine, read_header):
        with pytest.raises(DataError, match=r"a\.dcm: not a DICOM file"):
            read(tmp_path / "a.dcm")


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_a_file_without_preamble_is_read(tmp_path, name, syntax):
    data = pydicom.dcmread(dicom(tmp_path / "whole.dcm", syntax=syntax))
    for path, meta in ((tmp_path / name, b""), (tmp_path / "meta" / name, (tmp_path / "whole.dcm").read_bytes()[132:])):
        path.parent.mkdir(exist_ok=True)
        if not meta:
            data.file_meta = FileMetaDataset()
            implicit = syntax == uid.ImplicitVRLittleEndian
            data.save_as(path, enforce_file_format=False, implicit_vr=implicit, little_endian=True)
        path.write_bytes(meta or path.read_bytes())
        assert is_dicom(path) and np.array_equal(examine(path)[0][0], RAMP)


def test_the_position_of_a_slice_is_known_or_nan(tmp_path):
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [12.5, 3, 4]}
    found = read_header(dicom(tmp_path / "a.dcm", **sagittal, InstanceNumber=7, SeriesInstanceUID="1.2"))
    assert (abs(found.position), found.number, found.series, found.modality) == (12.5, 7, "1.2", "MR")
    bare = read_header(dicom(tmp_path / "b.dcm", Modality=None))
    assert np.isnan(bare.position) and (bare.number, bare.series, bare.modality, bare.frames) == (0, "", "", 1)
