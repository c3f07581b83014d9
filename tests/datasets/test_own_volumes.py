"""A reader's own DICOM series and NIfTI volumes, external tests both ways, and the chapters on them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from own_classes import ODD, classes, own, run_the_chapter
from own_images import blob, head
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from datasets import download
from datasets.catalog import REPO, DataError
from datasets.curation import __main__ as curation
from datasets.sources import volumes
from datasets.splitting import make_split
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from datasets.transforms import TRANSFORMS

pytestmark = pytest.mark.usefixtures("data")


def dicom(path: Path, seed: int, patient: str, study: str, number: int = 1, **tags: object) -> None:
    """One slice of an MR series, 12 bits in 16, rescaled."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = pydicom.Dataset()
    slice_.file_meta = meta
    slice_.SOPClassUID, slice_.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    slice_.PatientID, slice_.StudyInstanceUID, slice_.SeriesInstanceUID = patient, study, study + ".1"
    slice_.Modality, slice_.InstanceNumber = "MR", number
    slice_.Rows = slice_.Columns = 64
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
    slice_.RescaleSlope, slice_.RescaleIntercept = 2, -100
    slice_.PixelData = (head(seed).astype(np.uint16) * 15).tobytes()
    for name, value in tags.items():
        setattr(slice_, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(("ids", "patients"), [(True, 8), (False, 16)], ids=["named", "anonymised alike"])
def test_dicom_series_pass_as_folders_of_classes(ids, patients, tmp_path):
    for k, label in enumerate(("a", "b")):
        for p in range(8):
            for s in range(3):
                name = f"slice{s}.dcm" if p % 2 else f"1.2.{s}"
                person = f"p{p % 4}{label}" if ids else "ANON"
                dicom(tmp_path / f"mine/{label}/visit{p}/{name}", 100 * k + 10 * p + s, person, f"1.{k}.{p}", s)
    assert own("--folder", tmp_path / "mine") == 0
    table = read_manifest("own")
    assert (
        len(table) == 48 and table.patient.nunique() == patients and table.groupby("patient").label.nunique().max() == 1
    )
    image = ImageDataset("own", np.arange(48), image_size=64).batch([0])["image"]
    assert image.max() > 240 and image.float().std() > 20
    run_the_chapter()


def test_a_table_may_name_a_folder_of_dicom_files(tmp_path, capsys):
    for p in range(6):
        for s in range(2):
            dicom(tmp_path / f"series{p}/{s}.dcm", 10 * p + s, "x", f"1.{p}")
    lines = ["image,label,patient"] + [f"series{p},{'ab'[p % 2]},p{p}" for p in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert own("--labels", tmp_path / "t.csv") == 0
    table = read_manifest("own")
    assert table.path.tolist() == [f"series{p}/{s}.dcm" for p in range(6) for s in range(2)]
    assert table.patient.tolist() == [f"p{p}" for p in range(6) for _ in range(2)]
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("image,label\nempty,a\n")
    assert own("--labels", tmp_path / "t.csv") == 1
    assert "the folder empty holds no DICOM file" in capsys.readouterr().err


def test_a_dicom_file_without_an_image_is_named(tmp_path, capsys):
    for i in range(6):
        dicom(tmp_path / f"mine/{'ab'[i % 2]}/{i}.dcm", i, f"p{i}", f"1.{i}")
    tags = pydicom.dcmread(tmp_path / "mine/a/0.dcm")
    del tags.PixelData
    tags.save_as(tmp_path / "mine/a/0.dcm")
    assert own("--folder", tmp_path / "mine") == 1
    error = capsys.readouterr().err
    assert (
        f"{tmp_path / 'mine'}: 1 of 6 images are broken" in error
        and "a/0.dcm: 0.dcm: a DICOM file without image" in error
    )


def volume(path: Path, seed: int, mask: bool = False, zooms: tuple = (1.0, 1.0, 5.0), slices: int = 6) -> None:
    """A NIfTI volume of `slices` slices, the first of them black, or its mask."""
    planes = [
        np.zeros((64, 64), np.uint8) if z == 0 else blob(30, 20) if mask else head(seed + z) for z in range(slices)
    ]
    voxels = np.stack(planes).transpose(2, 1, 0).astype(np.float32) * (1 if mask else 40)
    if mask:
        voxels = (voxels > 0).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-zooms[0], -zooms[1], zooms[2], 1])), path)


def test_nifti_volumes_pass_with_and_without_masks(tmp_path, capsys):
    lines = ["image,mask,label"]
    for i in range(6):
        volume(tmp_path / f"v{i}.nii.gz", 100 * i, slices=6 + i % 2)
        volume(tmp_path / f"m{i}.nii.gz", 0, mask=True, slices=6 + i % 2)
        lines.append(f"v{i}.nii.gz,m{i}.nii.gz,{'ab'[i % 2]}")
    (tmp_path / "samples.csv").write_text("\n".join(lines))
    assert own("--folder", tmp_path) == 0
    table = read_manifest("own")
    assert len(table) == 6 * 5 + 3, "black slices are left out"
    assert table.path[:5].tolist() == [f"v0.nii.gz/{z:03}" for z in range(1, 6)]
    assert table.patient.nunique() == 6 and table.label[0] == "a" and table.label.nunique() == 2
    assert read_masks("own", np.arange(len(table))).any(axis=(1, 2, 3)).all()
    seen = ImageDataset("own", np.arange(5), image_size=64).batch([0])["image"][0, 0].numpy()
    box = cv2.boundingRect(head(1))
    wanted = cv2.resize(head(1)[box[1] : box[1] + box[3], box[0] : box[0] + box[2]], (64, 64))
    alike = {name: np.corrcoef(turn(seen).ravel(), wanted.ravel())[0, 1] for name, turn in TRANSFORMS.items()}
    assert max(alike, key=alike.get) == "upright" and alike["upright"] > 0.9, "it lies as it was written"
    assert download.main(["own", "--check"]) == 0
    run_the_chapter()
    with pytest.raises(DataError, match="holds no volumes"):
        make_split("own", "patient", selection="middle")
    Path(tmp_path / "m1.nii.gz").unlink()
    volume(tmp_path / "m1.nii.gz", 0, mask=True, slices=5)
    assert own("--folder", tmp_path) == 1
    assert "image (7, 64, 64) and mask m1.nii.gz (5, 64, 64) should have one shape" in capsys.readouterr().err


def test_a_volume_is_sliced_across_its_thickest_direction(tmp_path):
    for i in range(6):
        volume(tmp_path / f"mine/{'ab'[i % 2]}/v{i}.nii", 100 * i, zooms=(6.0, 1.0, 1.0), slices=32)
    assert own("--folder", tmp_path / "mine") == 0
    assert read_manifest("own").path.str.split("/").str[1].value_counts().max() > 40, "across its 64 columns"
    for file in (tmp_path / "mine").rglob("*.nii"):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), file)
    with pytest.raises(DataError, match="4 dimensions"):
        volumes.count(file)


# ---- external tests ------------------------------------------------------------------------------------


@pytest.fixture
def both(small_phantom, data, tmp_path):
    """A phantom, and an own set of 40 new images of two of its classes with six copies of the phantom's."""
    shutil.copytree(small_phantom / "phantom", data / "phantom")
    folder = classes(tmp_path / "mine", ["glioma", "notumor"], each=20)
    shown = ImageDataset("phantom", np.arange(6), image_size=64).batch(range(6))["image"][:, 0].numpy()
    for i, image in enumerate(shown):
        Image.fromarray(image).save(folder / f"glioma/copy{i}.png")
    assert own("--folder", folder, "--crop", "none") == 0
    return folder


def test_external_tests_from_and_to_own_leave_relatives_out(both, data, capsys):
    for name, test_on in (("phantom", "own"), ("own", "phantom")):
        with pytest.raises(DataError, match="make it with: python -m datasets"):
            make_split(name, "external", test_on=test_on)
    assert curation.main(["own", "phantom"]) == 0
    assert "own" in capsys.readouterr().out and (data / "own/overlap/own+phantom.csv").is_file()
    to_own, from_own = (
        make_split("phantom", "external", test_on="own"),
        make_split("own", "external", test_on="phantom"),
    )
    tested = read_manifest("own").path.iloc[to_own.test]
    assert len(tested) == 40 and not tested.str.contains("copy").any()
    phantom = read_manifest("phantom")
    copied = set(phantom.patient[:6])
    assert not set(phantom.patient.iloc[from_own.test]) & copied
    assert set(phantom.label.iloc[from_own.test]) <= {"glioma", "notumor"}
    run_the_chapter("external", "phantom", "own")
    run_the_chapter("external", "own", "phantom")


def test_what_was_shared_is_forgotten_with_the_images(both, data):
    assert curation.main(["own", "phantom"]) == 0
    (both / "glioma/copy0.png").unlink()
    assert own("--folder", both, "--crop", "none") == 0
    with pytest.raises(DataError, match=r"not there; make it with: python -m datasets.curation phantom own$"):
        make_split("phantom", "external", test_on="own")


# ---- the chapters themselves ---------------------------------------------------------------------------


def headless(chapter: str, *parameters: str) -> subprocess.CompletedProcess:
    words = [word for name in parameters for word in ("-p", *name.split("="))]
    command = [sys.executable, "-m", "utils.headless", str(REPO / f"notebooks/{chapter}.ipynb"), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPO)})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_chapter_2_runs_on_a_folder_of_classes_some_of_them_rare(tmp_path):
    folder = classes(tmp_path / "mine", ODD[:6], each=8)
    for i in range(5):
        next((folder / ODD[0]).glob(f"{i}.*")).unlink()
    assert own("--folder", folder) == 0
    done = headless("2_classification", "dataset=own", "split=patient", "image_size=64")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "own.patient-f0.CustomCNN.s2-64px-quick.seed0" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_chapter_1_is_about_published_sets_and_says_so_in_one_line(tmp_path):
    assert own("--folder", classes(tmp_path / "mine", ["a", "b"])) == 0
    done = headless("1_data_curation", "dataset=own")
    error = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: "))
    assert done.returncode == 1 and "DataError: " in error and "'own' was curated when it was brought in" in error
