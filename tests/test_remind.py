"""DICOM of every kind, and ReMIND: patients, diagnoses, slices, results of patients. All files are made here."""

import io
import zipfile
from pathlib import Path

import gdcm
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from datasets import download
from datasets.catalog import DataError, get
from datasets.labels import classes_of
from datasets.sources import remind
from datasets.sources.dicom import read_header, read_pixels
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.evaluation.classification import by_patient, evaluate, run_table
from utils.reporting.records import Evidence
from utils.reporting.runs import Run
from utils.reporting.tables import BLOCKS
from utils.training.data import load_data

RAMP = np.arange(24, dtype=np.int16).reshape(4, 6) * 100


def dicom(path: Path, pixels: np.ndarray = RAMP, *, bits: int = 16, syntax=ExplicitVRLittleEndian, **tags) -> Path:
    """Write pixels H×W (frames N×H×W, colour H×W×3) as an anonymous DICOM file; a tag of None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = min(bits, data.BitsAllocated), min(bits, data.BitsAllocated) - 1
    data.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.Modality, data.PatientName, data.PatientID = "MR", "anonymous", "anonymous"
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, syntax: int) -> None:
    """Change the transfer syntax of a file in place."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


# ---- one file ------------------------------------------------------------------------------------------


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


def test_where_a_slice_lies_is_told_or_unknown(tmp_path):
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [12.5, 3, 4]}
    found = read_header(dicom(tmp_path / "a.dcm", **sagittal, InstanceNumber=7, SeriesInstanceUID="1.2"))
    assert (abs(found.position), found.number, found.series, found.modality) == (12.5, 7, "1.2", "MR")
    bare = read_header(dicom(tmp_path / "b.dcm", Modality=None))
    assert np.isnan(bare.position) and (bare.number, bare.series, bare.modality, bare.frames) == (0, "", "", 1)


# ---- the set -------------------------------------------------------------------------------------------

DIAGNOSES = ["Glioblastoma"] * 8 + ["Astrocytoma"] * 7 + ["Ependymoma"] * 2


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    return tmp_path / "data"


def table(diagnoses: list[str], kind: str = "xlsx") -> bytes:
    rows = pd.DataFrame({"Case Number": range(1, len(diagnoses) + 1), "Age": 50, "Histopathology": diagnoses})
    buffer = io.BytesIO()
    rows.to_excel(buffer, index=False) if kind == "xlsx" else buffer.write(rows.to_csv(index=False).encode())
    return buffer.getvalue()


def archive(folder: Path, diagnoses: list[str] = DIAGNOSES, slices: int = 3, clinical: bytes | None = None) -> Path:
    """ReMIND as the NBIA Data Retriever lays it out, zipped with its clinical table; seventeen small patients."""
    place, rng = folder / "files/manifest-1/ReMIND", np.random.default_rng(0)
    for patient, diagnosis in enumerate(diagnoses, start=1):
        series = place / f"ReMIND-{patient:03d}" / "12-25-1982-NA-Preop-1" / "3.0-AXT1-2"
        base, uid = rng.integers(100, 900, (16, 20)), generate_uid()
        for z in range(slices):
            side = 16 if z else 24  # sizes are mixed
            pixels = np.resize(base + 40 * z, (side, 20)).astype(np.int16)
            where = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 5.0 * (slices - z)]}
            dicom(series / f"1-{z + 1:02d}.dcm", pixels, SeriesInstanceUID=uid, InstanceNumber=z + 1, **where)
        dicom(series.parent / "9.0-US-7/1-1.dcm", Modality="US")
        dicom(series.parent / "300.0-tumor-seg/1-1.dcm", Modality="SEG", PixelData=None)
        assert diagnosis
    name = "ReMIND-Dataset-Clinical-Data-September-2023.xlsx"
    (folder / "files" / name).write_bytes(table(diagnoses) if clinical is None else clinical)
    (place.parent / "metadata.csv").write_text("Series UID\n")
    with zipfile.ZipFile(folder / "remind.zip", "w") as file:
        for path in sorted((folder / "files").rglob("*.*")):
            if path.is_file():
                file.write(path, path.relative_to(folder / "files"))
    return folder / "remind.zip"


def bring(path: Path) -> int:
    return download.main(["remind", "--archive", str(path), "--size", "32", "--workers", "1"])


def test_remind_comes_in_without_rare_diagnoses_and_splits_by_patient(root, tmp_path, capsys):
    assert bring(archive(tmp_path)) == 0, capsys.readouterr().err
    found = read_manifest("remind")
    assert set(found.label) == {"astrocytoma", "glioblastoma"} == set(classes_of("remind")), "two ependymomas are rare"
    assert len(found) == 15 * 3 and found.patient.nunique() == 15, "three slices a patient; no ultrasound, no mask"
    assert found.path[0] == "ReMIND-001/000" and found.height.tolist()[:3] == [16, 16, 24], (
        "from the lowest position up"
    )
    assert download.main(["remind", "--check"]) == 0
    parts = [make_split("remind", "patient", fold, val_fraction=0.15 / 0.85) for fold in range(7)]
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(45)) and not any(p.seen.any() for p in parts)
    for part in parts:
        owners = [set(found.patient[rows]) for rows in (part.train, part.val, part.test)]
        assert not any(a & b for i, a in enumerate(owners) for b in owners[i + 1 :])
        assert 9 <= len(owners[0]) <= 12 and 2 <= len(owners[1]) <= 3 and 2 <= len(owners[2]) <= 3
    data = ImageDataset("remind", parts[0].train, image_size=32)
    assert data.classes == ("astrocytoma", "glioblastoma") and data.batch([0])["image"].shape == (1, 1, 32, 32)


def test_a_series_is_scaled_as_a_whole_whatever_its_range(tmp_path):
    ramp = np.arange(400).reshape(20, 20)
    for series, most in (("a", 399), ("b", 19)):
        for z, share in enumerate((1, 4)):
            pixels = (ramp * most // 399 // share).astype(np.int16)
            name = tmp_path / "ReMIND-001" / series / f"{z}.dcm"
            dicom(name, pixels, SeriesInstanceUID=f"1.{ord(series)}", InstanceNumber=z)
    bright, dim, other, _ = (image.image for image in remind.read(get("remind"), tmp_path, "ReMIND-001"))
    assert bright.min() == 0 and bright.max() == 255
    assert 55 < dim.max() < 75, "a quarter as bright as the other slice of its series, not stretched by itself"
    assert other.max() == 255, "another series has its own range"


def test_at_most_399_slices_evenly_over_all_series(tmp_path, monkeypatch):
    monkeypatch.setattr(remind, "SLICES", 5)
    for series in ("a", "b"):
        for z in range(6):
            pixels = np.full((8, 8), 0, np.int16)
            pixels[:, :4] = 100 * (z + 1)
            dicom(
                tmp_path / "ReMIND-001" / series / f"{z}.dcm",
                pixels,
                SeriesInstanceUID=f"1.{ord(series)}",
                InstanceNumber=z,
            )
    images = remind.read(get("remind"), tmp_path, "ReMIND-001")
    assert len(images) == 5 and [image.facts["path"] for image in images] == [f"ReMIND-001/{i:03d}" for i in range(5)]
    assert len(remind.read(get("remind"), tmp_path, "ReMIND-001/a")) == 5
    monkeypatch.setattr(remind, "SLICES", 399)
    assert len(remind.read(get("remind"), tmp_path, "ReMIND-001")) == 12, "a patient with fewer keeps them all"


@pytest.mark.parametrize(
    ("clinical", "said"),
    [
        (b"no table", "no table with the columns Case Number and Histopathology"),
        (table(DIAGNOSES[:-1]), "1 patients have no diagnosis in the table, ReMIND-017 first"),
        (table([f"Rare {i}" for i in range(17)]), "no diagnosis has 7 patients"),
    ],
)
def test_a_clinical_table_that_does_not_fit_is_refused_in_one_line(clinical, said, root, tmp_path, capsys):
    assert bring(archive(tmp_path, clinical=clinical)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_clinical_table_may_be_csv_but_names_a_case_once(tmp_path):
    path = tmp_path / "my clinical data.csv"
    path.write_bytes(table(DIAGNOSES, "csv"))
    assert remind._diagnoses(get("remind"), tmp_path)[9] == "astrocytoma"
    path.write_bytes(table(DIAGNOSES, "csv") + b"3,50,Glioma\n")
    with pytest.raises(DataError, match="case 3 stands in the table twice"):
        remind._diagnoses(get("remind"), tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"the table of diagnoses .* is missing"):
        remind._diagnoses(get("remind"), tmp_path)


def test_results_of_patients_are_means_of_their_slices(root, tmp_path):
    assert bring(archive(tmp_path)) == 0
    data = load_data(Run(dataset="remind", split="patient", fold=0, image_size=32))
    rng = np.random.default_rng(0)
    slices = run_table(data, rng.dirichlet([1, 1], len(data.test)))
    patients = by_patient(slices, data.classes)
    assert len(patients) == slices.group.nunique() < len(slices)
    for _, row in patients.iterrows():
        mine = slices[slices.group == row.group]
        assert row.p_glioblastoma == pytest.approx(mine.p_glioblastoma.mean())
        assert row.predicted == ("glioblastoma" if row.p_glioblastoma > 0.5 else "astrocytoma")
        assert row.label == mine.label.iloc[0]
    assert evaluate(patients, data.classes, resamples=10)["images"] == len(patients)


def test_s1s_table_names_its_six_networks_and_why_they_were_not_run():
    shown = BLOCKS["s1"](Evidence(Path(), [], []))
    named = shown[shown["accuracy %: reported"] != "–"]
    assert named.network.tolist() == ["VGG19", "InceptionV3", "DenseNet121", "Xception", "ResNet50", "ViT-B16"]
    assert named.remark.str.startswith("not run here: ").all()
    reported = ["accuracy", "macro precision", "macro recall", "macro F2"]
    assert all(f"{metric} %: reported" in shown for metric in reported)
