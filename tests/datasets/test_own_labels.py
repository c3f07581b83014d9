"""A reader's own labels: folders of classes, tables, volumes; from the door to a figure, external tests both ways."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pydicom
import pytest
from accelerate.utils import set_seed
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from test_own_sets import blob, head

from datasets import catalog, download
from datasets.catalog import REPO, DataError
from datasets.curation import __main__ as curation
from datasets.sources import volumes
from datasets.splitting import make_split
from datasets.store.images import ImageDataset, read_masks, with_masks
from datasets.store.index import read_manifest, read_splits
from datasets.transforms import TRANSFORMS
from models import MODELS
from utils.evaluation.baselines import baseline
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.predict import predict
from utils.recipes import QUICK, get_recipe
from utils.reporting import figures
from utils.reporting.records import save_run
from utils.reporting.runs import Run
from utils.training.data import load_data
from utils.training.loop import fit
from utils.training.tasks import Classification

ODD = ["_NORMAL T1", "Meningioma T1C+", "glioma, low grade", "Tumeur épithéliale", "脑膜瘤", "a=b", "100 %", "x'y\"z"]
ODD += [f"class {i} + T2" for i in range(44 - len(ODD))]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """An empty data root and an empty output root."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    return tmp_path / "data"


def own(*options: str | Path) -> int:
    return download.main(["own", *map(str, options), "--size", "64", "--workers", "1"])


def picture(path: Path, seed: int, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(head(seed, side)).save(path)


def classes(folder: Path, names: list[str], each: int = 8) -> Path:
    for k, name in enumerate(names):
        for i in range(each):
            picture(folder / name / f"{i}{'.png' if i % 2 else '.TIF'}", 1000 * k + i)
    return folder


def run_the_chapter(split: str = "patient", dataset: str = "own", test_on: str = "") -> dict:
    """What chapter 2 does between its parameters and its confusion matrix, for one epoch."""
    run = Run(dataset, split, 0, "CustomCNN", "s2", 0, 64, True, test_on)
    facts, recipe = catalog.get(dataset), get_recipe("s2", "CustomCNN", **QUICK | {"epochs": 1})
    loaded = load_data(run, recipe.val_fraction)
    small = load_data(run.baseline("1-NN"))
    assert baseline("1-NN", small.train_val, small.test).shape == (len(small.test), len(facts.classes))
    set_seed(0)
    net = MODELS["CustomCNN"](num_classes=len(facts.classes), in_channels=3, image_size=64)
    task = Classification(len(facts.classes), in_channels=3, augmentation=recipe.augmentation)
    fitted = fit(net, task, loaded.train, loaded.val, recipe, folder=run.folder, seed=0)
    parts = loaded.split
    table = prediction_table(
        parts.test_set, parts.test, parts.test_groups, facts.classes, predict(net, task, loaded.test)
    )
    result = evaluate(table, facts.classes, 20)
    save_run(run, result, table, model=net, recipe=recipe, fit=fitted, sizes=loaded.sizes)
    figures.confusion(table, facts.classes)
    plt.close("all")
    return result


# ---- folders of classes --------------------------------------------------------------------------------


def test_44_classes_of_odd_names_pass_from_a_folder_to_a_figure(tmp_path, capsys):
    assert own("--folder", classes(tmp_path / "mine", ODD)) == 0
    assert catalog.get("own").classes == tuple(sorted(ODD)) and catalog.get("own").mask_channels == ()
    assert "own" not in with_masks()
    table = read_manifest("own")
    assert len(table) == 352 and table.label.value_counts().eq(8).all() and table.patient.eq("").all()
    said = capsys.readouterr().out
    assert "352 images, whose patients nobody names, in" in said and "; 44 classes; " in said
    assert download.main(["own", "--check"]) == 0
    result = run_the_chapter()
    assert 0 <= result["metrics"]["accuracy"]["value"] <= 1 and len(result["per_class"]) == 44


def test_folders_are_split_where_the_reader_split_them(tmp_path):
    for split, number in (("Training", 8), ("Validation", 2), ("test", 4)):
        for k, name in enumerate(("a", "b")):
            for i in range(number):
                picture(tmp_path / "mine" / split / name / f"{i}.png", 100 * k + 10 * len(split) + i)
    assert own("--folder", tmp_path / "mine") == 0
    table = read_manifest("own")
    assert table.groupby(["published_split", "label"]).size().to_dict() == {
        ("test", "a"): 4,
        ("test", "b"): 4,
        ("train", "a"): 10,
        ("train", "b"): 10,
    }
    assert set(table.published_split.iloc[make_split("own", "published").test]) == {"test"}
    run_the_chapter("published")


def test_copies_across_classes_stay_together_and_are_marked(tmp_path, capsys):
    folder = classes(tmp_path / "mine", ["a", "b"], each=10)
    shutil.copy(folder / "a/1.png", folder / "b/again.png")
    flipped = np.asarray(Image.open(folder / "a/3.png"))[:, ::-1]
    Image.fromarray(flipped).save(folder / "a/flipped.png")
    assert own("--folder", folder) == 0
    groups = read_splits("own", read_manifest("own")).set_index("path")
    assert groups.group["a/1.png"] == groups.group["b/again.png"]
    assert groups.group["a/3.png"] == groups.group["a/flipped.png"]
    assert groups.label_conflict[["a/1.png", "b/again.png"]].eq("1").all()
    assert groups.label_conflict["a/3.png"] == "0"
    assert "2 images have a copy with another label" in capsys.readouterr().out


def test_classes_spelt_alike_are_one_and_what_is_no_image_is_listed(tmp_path, capsys):
    folder = classes(tmp_path / "mine", ["Glioma", "glioma ", "no_tumor"], each=6)
    for extra in ("Glioma/notes.docx", "beside.png", "Glioma/.hidden.png", "Glioma/Thumbs.db", "__MACOSX/a/x.png"):
        (folder / extra).parent.mkdir(parents=True, exist_ok=True)
        (folder / extra).write_bytes(b"x")
    assert own("--folder", folder) == 0
    assert catalog.get("own").classes == ("Glioma", "no_tumor") and len(read_manifest("own")) == 18
    error = capsys.readouterr().err
    assert "'Glioma' = 'glioma '" in error
    assert "2 files are no images in a class and were left out, beside.png, Glioma/notes.docx first" in error
    assert "'no_tumor' is a class like any other here; other sets call images without a tumour 'notumor'" in error


# ---- tables --------------------------------------------------------------------------------------------


def test_a_table_with_labels_alone_beside_its_images_or_elsewhere(tmp_path):
    lines = ["File Name;Diagnosis;Age"]
    for i in range(24):
        picture(tmp_path / f"images/{i}.jpg", i)
        lines.append(f"{i}.jpg;{'ab'[i % 2]};{40 + i}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    given = ("--labels", tmp_path / "labels.csv", "--columns", "image=file name,label=diagnosis")
    assert own(*given, "--folder", tmp_path / "images") == 0
    table = read_manifest("own")
    assert table.label.tolist() == ["a", "b"] * 12 and table.path[3] == "3.jpg"
    run_the_chapter()
    before = read_manifest("own").sha256.tolist()
    shutil.move(tmp_path / "labels.csv", tmp_path / "images/labels.csv")
    assert own("--labels", tmp_path / "images/labels.csv", *given[2:]) == 0, "images lie beside the table"
    assert read_manifest("own").sha256.tolist() == before


def test_a_table_with_labels_masks_and_patients_serves_both_chapters(tmp_path):
    lines = ["image,mask,patient,label"]
    for i in range(24):
        picture(tmp_path / f"mine/{i}.png", i)
        Image.fromarray(blob(30, 30) * (i % 3 > 0)).save(tmp_path / f"mine/{i}m.png")
        lines.append(f"{i}.png,{i}m.png,p{i // 2},{'ab'[i // 2 % 2]}")
    (tmp_path / "mine/samples.csv").write_text("\n".join(lines))
    assert own("--folder", tmp_path / "mine") == 0
    assert catalog.get("own").classes == ("a", "b") and "own" in with_masks()
    run_the_chapter()
    segmented = load_data(Run("own", "patient", 0, "AttentionUNet", "ours", 0, 32, True, n_filters=4))
    assert segmented.test.batch([0])["mask"].shape == (1, 1, 32, 32)
    assert read_masks("own", np.arange(24)).any(axis=(1, 2, 3)).sum() == 16


FAULTS = {
    "no such column": ("image=scan", "its first line has no 'scan', it names file, dx, patient_id"),
    "a column hidden": ("image=file,label=dx", "no 'patient', but 'patient_id': say --columns patient=patient_id"),
    "no image column": ("label=dx", "its first line has no 'image', it names file, dx, patient_id; say which"),
    "not a column of ours": ("image=file,labl=dx", "unknown column 'labl'; did you mean 'label'"),
    "image not used": ("image=,label=dx", "the column image is needed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_columns_are_asked_about_rather_than_guessed(fault, tmp_path, capsys):
    picture(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text("file,dx,patient_id\na.png,x,p\n")
    columns, said = FAULTS[fault]
    assert own("--labels", tmp_path / "t.csv", "--columns", columns) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_column_that_is_not_wanted_is_left_aside(tmp_path, capsys):
    lines = ["file,dx,patient_id"] + [f"{i}.png,{'ab'[i % 2]},p{i % 3}" for i in range(12)]
    for i in range(12):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert own("--labels", tmp_path / "t.csv", "--columns", "image=file,label=dx,patient=") == 0
    assert read_manifest("own").patient.eq("").all()
    assert "note: columns of t.csv that are not used: patient_id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sartaj", "--labels", "x.csv"], "--labels is for 'own' alone"),
        (["sartaj", "--columns", "image=a"], "--columns is for 'own' alone"),
        (["own", "--labels", "x.csv", "--columns", "image"], "takes image=NAME,label=NAME and the like"),
        (["own", "--columns", "image=a"], "--columns goes with --labels FILE or --folder DIR"),
    ],
)
def test_wrong_words_for_tables_are_usage_errors(words, message, capsys):
    with pytest.raises(SystemExit):
        download.main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["nowhere", "empty", "no table"])
def test_nothing_to_read_is_said_in_one_line(kind, tmp_path, capsys):
    (tmp_path / "empty/class").mkdir(parents=True)
    given = {"nowhere": ("--folder", tmp_path / "x"), "empty": ("--folder", tmp_path / "empty")}
    assert own(*given.get(kind, ("--labels", tmp_path / "x.csv"))) == 1
    error = capsys.readouterr().err
    said = {"nowhere": "no such folder", "empty": "neither a table samples.csv nor folders of classes with images"}
    assert said.get(kind, "x.csv: not there") in error and error.count("\n") == 1


# ---- volumes -------------------------------------------------------------------------------------------


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
