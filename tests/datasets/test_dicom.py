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
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from datasets.catalog import DataError
from datasets.sources.dicom import read_header, read_pixels


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_plain_pixels_are_read_as_they_are(tmp_path, syntax):
    assert np.array_equal(read_pixels(dicom(tmp_path / "a.dcm", syntax=syntax)), RAMP[None])


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("RLELossless", RLELossless),
        ("JPEG2000Lossless", JPEG2000Lossless),
        ("JPEGLosslessProcess14_1", JPEGLosslessSV1),
        ("JPEGLSLossless", JPEGLSLossless),
    ],
)
def test_losslessly_compressed_pixels_are_those_that_were_packed(tmp_path, name, uid):
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 40), dtype=np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, bits=12)
    compressed(path, getattr(gdcm.TransferSyntax, name))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == uid
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


def test_signed_twelve_bits_rescaled_and_inverted(tmp_path):
    signed = (RAMP - 1000).astype(np.int16)
    assert np.array_equal(read_pixels(dicom(tmp_path / "s.dcm", signed))[0], signed)
    assert np.array_equal(read_pixels(dicom(tmp_path / "t.dcm", RAMP.astype(np.uint16), bits=12))[0], RAMP)
    rescaled = read_pixels(dicom(tmp_path / "r.dcm", RescaleSlope=2, RescaleIntercept=-1024))[0]
    assert np.array_equal(rescaled, 2.0 * RAMP - 1024)
    inverted = read_pixels(dicom(tmp_path / "i.dcm", PhotometricInterpretation="MONOCHROME1"))[0]
    assert np.array_equal(inverted, RAMP.max() - RAMP), "the lowest value of MONOCHROME1 is white"


def test_frames_and_colour(tmp_path):
    frames = np.stack([RAMP, RAMP + 1, RAMP + 2])
    assert np.array_equal(read_pixels(dicom(tmp_path / "f.dcm", frames)), frames)
    assert read_header(tmp_path / "f.dcm").frames == 3
    colour = np.zeros((4, 6, 3), np.uint8)
    colour[..., 1] = 200
    assert read_pixels(dicom(tmp_path / "c.dcm", colour, bits=8)).shape == (1, 4, 6)
    assert read_pixels(tmp_path / "c.dcm").max() == pytest.approx(0.587 * 200)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Rows": None}, "a.dcm: a DICOM file without Rows; leave it out"),
        ({"PhotometricInterpretation": None}, "without PhotometricInterpretation"),
        ({"PixelData": None}, "a.dcm: a DICOM file without image; leave it out"),
        ({"PixelData": b"\0\0"}, "a.dcm: its pixels cannot be decoded"),
        ({"RescaleSlope": "1e39", "RescaleIntercept": "0"}, "NaN or infinite"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, tags, said):
    with pytest.raises(DataError) as error:
        read_pixels(dicom(tmp_path / "a.dcm", **tags))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_no_dicom_file_at_all(tmp_path):
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
