"""DICOM files of every kind are read as they were made, or refused by name. All files are made here."""

import io

import gdcm
import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, compressed, dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from datasets.catalog import DataError
from datasets.sources.dicom import read_header, read_pixels

LOSSLESS = {
    "RLELossless": RLELossless,
    "JPEG2000Lossless": JPEG2000Lossless,
    "JPEGLosslessProcess14_1": JPEGLosslessSV1,
    "JPEGLSLossless": JPEGLSLossless,
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_losslessly_compressed_pixels_are_those_that_were_packed(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 40), dtype=np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, bits=12)
    compressed(path, getattr(gdcm.TransferSyntax, name))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == LOSSLESS[name]
    assert np.array_equal(read_pixels(path)[0], pixels)


def test_a_jpeg_inside_is_read(tmp_path):
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=95)
    path = dicom(tmp_path / "a.dcm", grey, bits=8)
    data = pydicom.dcmread(path)
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate([buffer.getvalue()]), JPEGBaseline8Bit
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    assert np.abs(read_pixels(path)[0] - grey).max() < 4


SIGNED = (RAMP - 1000).astype(np.int16)
COLOUR = np.stack([np.zeros((4, 6), np.uint8), np.full((4, 6), 200, np.uint8), np.zeros((4, 6), np.uint8)], axis=2)
PLAIN = {
    "explicit": (RAMP, {}, RAMP[None]),
    "implicit": (RAMP, {"syntax": ImplicitVRLittleEndian}, RAMP[None]),
    "signed": (SIGNED, {}, SIGNED[None]),
    "twelve bits": (RAMP.astype(np.uint16), {"bits": 12}, RAMP[None]),
    "rescaled": (RAMP, {"RescaleSlope": 2, "RescaleIntercept": -1024}, 2.0 * RAMP[None] - 1024),
    "the lowest value is white": (RAMP, {"PhotometricInterpretation": "MONOCHROME1"}, RAMP.max() - RAMP[None]),
    "frames": (np.stack([RAMP, RAMP + 1]), {}, np.stack([RAMP, RAMP + 1])),
    "colour": (COLOUR, {"bits": 8}, np.full((1, 4, 6), 0.587 * 200)),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_pixels_are_read_as_they_are(tmp_path, case):
    pixels, how, wanted = PLAIN[case]
    path = dicom(tmp_path / "a.dcm", pixels, **how)
    found = read_pixels(path)
    assert found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-6)
    assert read_header(path).frames == len(wanted)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Rows": None}, "a.dcm: its pixels cannot be decoded"),
        ({"PixelData": None}, "a.dcm: a DICOM file without image; leave it out"),
        ({"PixelData": b"\0\0"}, "a.dcm: its pixels cannot be decoded"),
        ({"RescaleSlope": "1e39", "RescaleIntercept": "0"}, "NaN or infinite"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, tags, said):
    with pytest.raises(DataError, match=said):
        read_pixels(dicom(tmp_path / "a.dcm", **tags))
    (tmp_path / "a.dcm").write_text("404: not found")
    for read in (read_pixels, read_header):
        with pytest.raises(DataError, match=r"a\.dcm: not a DICOM file"):
            read(tmp_path / "a.dcm")


def test_the_position_of_a_slice_is_known_or_nan(tmp_path):
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [12.5, 3, 4]}
    found = read_header(dicom(tmp_path / "a.dcm", **sagittal, InstanceNumber=7, SeriesInstanceUID="1.2"))
    assert (abs(found.position), found.number, found.series, found.modality) == (12.5, 7, "1.2", "MR")
    bare = read_header(dicom(tmp_path / "b.dcm", Modality=None))
    assert np.isnan(bare.position) and (bare.number, bare.series, bare.modality, bare.frames) == (0, "", "", 1)
