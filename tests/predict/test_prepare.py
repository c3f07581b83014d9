"""What files and folders are scans of, and that they are prepared as training prepared its images."""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dicom_files import dicom, series
from own_images import head, volume
from PIL import Image
from pydicom.dataset import Dataset
from saved_model import save_model

from datasets import catalog, download
from datasets.catalog import REPO, DataError, UnknownName
from datasets.sources import cheng, folders
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from datasets.store.preprocess import Preparation, RawImage
from utils.evaluation.predict import predict
from utils.predict.__main__ import DONE, SOME, USAGE, main
from utils.predict.model import SavedModel
from utils.predict.prepare import Scan, find
from utils.predict.verdict import ask
from utils.report.weights import expected_input
from utils.run import Run


def image(path: Path, seed: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(head(seed)).save(path)
    return path


def found(*paths: Path) -> dict[str, tuple[Path, ...]]:
    scans: list[Scan] = find(paths, ["grey"])[0]
    assert len({scan.name for scan in scans}) == len(scans), "every scan has a name of its own"
    return {scan.name: scan.files for scan in scans}


def test_scans_of_one_name_have_answers_and_files_of_their_own(classifier, tmp_path, capsys):
    one, two = image(tmp_path / "p1/slice.png"), image(tmp_path / "p2/slice.png", 2)
    out = tmp_path / "out"
    assert main([str(one), str(two), "--output", str(out), "--json"]) == DONE
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["file"] for answer in answers] == ["p1/slice.png", "p2/slice.png"]
    assert [answer["written"] for answer in answers] == [[str(out / f"{p}/slice.png.png")] for p in ("p1", "p2")]
    assert (out / "p1/slice.png.png").read_bytes() != (out / "p2/slice.png.png").read_bytes()
    model = save_model("phantom", "OutlineClassifier").parent
    for seed, patient in enumerate(("p1", "p2")):
        volume(tmp_path / patient / "v.nii.gz", seed=seed)
    assert main([str(model), *(str(tmp_path / p) for p in ("p1", "p2")), "--output", str(out)]) == DONE
    masks = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
    assert masks == [f"{p}/v.nii.gz-{name}.nii.gz" for p in ("p1", "p2") for name in ("labels", "tumour")]


def test_scans_are_named_by_their_paths_below_what_they_have_in_common(tmp_path, monkeypatch):
    one, two, three = (image(tmp_path / name) for name in ("a/t/x.png", "b/t/x.png", "b/u/x.png"))
    assert list(found(one, two, three)) == list(found(tmp_path)) == ["a/t/x.png", "b/t/x.png", "b/u/x.png"]
    assert list(found(two, three)) == ["t/x.png", "u/x.png"]
    assert found(one) == found(one, one) == {"x.png": (one,)}, "what is named twice is found once"
    monkeypatch.chdir(tmp_path / "a")
    assert len(found(Path("t/x.png"), one, tmp_path / "a/t")) == 1


def test_what_an_answer_wrote_is_not_asked_about_and_replaces_nothing_else(roots, tmp_path, capsys):
    model, asked = str(save_model("phantom", "OutlineClassifier").parent), tmp_path / "asked"
    volume(asked / "v.nii.gz")
    series(asked, "1.2.3")
    command = [model, str(asked), "--output", str(asked)]
    assert main(command) == main(command) == DONE, "it replaces its own"
    written = "c.dcm.png, v.nii.gz-labels.nii.gz, v.nii.gz-tumour.nii.gz first"
    assert f"4 files are no scans and were left out, {written}" in capsys.readouterr().err
    assert list(found(asked)) == ["c.dcm", "v.nii.gz"]
    content = image(asked / "v.nii.gz.png").read_bytes()
    assert main(command) == SOME and "v.nii.gz.png: is there, and no answer wrote it" in capsys.readouterr().err
    assert (asked / "v.nii.gz.png").read_bytes() == content


def test_a_name_that_no_terminal_and_no_figure_can_show_is_written_out(tmp_path):
    image(tmp_path / os.fsdecode(b"a\xff\x1b[31m\n.png"))
    assert list(found(tmp_path)) == [r"a\udcff\x1b[31m\n.png"]


def test_files_of_one_series_in_one_folder_are_one_scan_in_the_order_of_its_slices(tmp_path):
    one, two = series(tmp_path / "p1", "1.2.1"), series(tmp_path / "p2", "1.2.1")  # anonymous: all have one series
    third = series(tmp_path / "p2", "1.2.3", names="xyz")
    expected = {"p1/c.dcm": tuple(one[::-1]), "p2/c.dcm": tuple(two[::-1]), "p2/z.dcm": tuple(third[::-1])}
    assert found(tmp_path) == found(two[-1], tmp_path) == expected
    picture = image(tmp_path / "a.png")
    assert list(found(one[0], picture, *two, one[1])) == ["p1/b.dcm", "a.png", "p2/c.dcm"]


PLACE = {"SeriesInstanceUID": "1.2.1", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
SAGITTAL = [0, 1, 0, 0, 0, -1]
STACKS = {  # tags of one more file, its place in mm → how many scans there are of three axial slices and this one
    "the next slice": ({}, 3, 1),
    "a localiser in another direction": ({"ImageOrientationPatient": SAGITTAL}, 0, 2),
    "another echo": ({"EchoTime": "90"}, 0, 2),
    "the phase beside the magnitude": ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, 0, 2),
    "another patient": ({"PatientID": "another"}, 3, 2),
    "a copy": ({"SOPInstanceUID": "1.5.0", "InstanceNumber": 1}, 0, 1),
}


@pytest.mark.parametrize("case", STACKS)
def test_slices_of_one_series_that_are_of_several_volumes_are_not_averaged(case, tmp_path):
    tags, place, number = STACKS[case]
    for z in range(3):
        own = {"ImagePositionPatient": [0, 0, z], "SOPInstanceUID": f"1.5.{z}", "InstanceNumber": z + 1}
        dicom(tmp_path / f"{z}.dcm", head(z).astype(np.int16), **PLACE | own)
    dicom(tmp_path / "more.dcm", head(9).astype(np.int16), **PLACE | {"ImagePositionPatient": [0, 0, place]} | tags)
    scans, notes = find([tmp_path], ["grey"])
    copies = [f"{tmp_path / 'more.dcm'}: a copy of 0.dcm (one SOPInstanceUID), left out"]
    assert len(scans) == number and notes == (copies if case == "a copy" else [])
    assert [len(scan.read().images) for scan in scans] == ([4] if case == "the next slice" else [3, 1][:number])


def test_several_images_of_one_place_are_refused(tmp_path):
    for time in range(2):
        dicom(tmp_path / f"{time}.dcm", head(time).astype(np.int16), ImagePositionPatient=[0, 0, 5], **PLACE)
    ((scan,), _) = find([tmp_path], ["grey"])
    with pytest.raises(DataError, match=r"several images of one place .* in one series; name the files of one"):
        scan.read()


def of_frame(place: float, **tags: object) -> Dataset:
    """The functional groups of a frame of an enhanced file."""
    frame, values = Dataset(), Dataset()
    for name, value in {"ImagePositionPatient": [0, 0, place], **tags}.items():
        setattr(values, name, value)
    frame.PlanePositionSequence = frame.MREchoSequence = [values]
    return frame


FRAMES = {  # what an enhanced file says of its three frames → whether they are one volume
    "a volume": ([of_frame(z) for z in (2, 0, 1)], True),
    "nothing is said": ([], True),
    "two echoes": ([of_frame(z, EffectiveEchoTime=90.0 if z == 2 else 20.0) for z in range(3)], False),
    "two directions": (
        [of_frame(z, ImageOrientationPatient=SAGITTAL if z else [1, 0, 0, 0, 1, 0]) for z in range(3)],
        False,
    ),
    "one place at several times": ([of_frame(5)] * 3, False),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames_of_one_file_that_are_of_several_volumes_are_not_averaged(case, tmp_path):
    groups, whole = FRAMES[case]
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    pixels = np.stack([head(k).astype(np.int16) for k in range(3)])
    tags = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": groups}
    ((scan,), _) = find([dicom(tmp_path / "a.dcm", pixels, **tags)], ["grey"])
    with contextlib.nullcontext() if whole else pytest.raises(DataError, match=r"a\.dcm: frames of several directions"):
        assert len(scan.read().images) == 3


STRANGE = {
    "colour": ({"pixels": np.stack([head(1), head(2), head(3)], axis=2), "bits": 8}, "colour image"),
    "colour in which all is grey": ({"pixels": np.stack([head(1)] * 3, axis=2), "bits": 8}, ""),
    "CT": ({"Modality": "CT"}, "Its DICOM tags say CT; the model knows MR images of heads alone"),
    "MR of a knee": ({"BodyPartExamined": "KNEE"}, "Its DICOM tags say KNEE;"),
    "CT of a knee": ({"Modality": "CT", "BodyPartExamined": "knee"}, "Its DICOM tags say CT of KNEE;"),
    "MR of a head": ({"BodyPartExamined": "HEADNECK"}, ""),
}


@pytest.mark.parametrize("case", STRANGE)
def test_dicom_that_shows_no_mr_image_of_a_head_is_flagged(case, classifier, tmp_path):
    tags, warning = STRANGE[case]
    path = dicom(tmp_path / "a.dcm", **{"pixels": head(1).astype(np.int16)} | tags)
    warnings = ask(classifier, find([path], ["grey"])[0][0]).answer.warnings
    said = [line for line in warnings if "colour image" in line or "DICOM tags" in line]
    assert len(said) == bool(warning) and warning in "".join(said)


def test_a_small_bright_object_is_not_of_one_grey_value(tmp_path):
    pixels = np.zeros((64, 64), np.int16)
    pixels[30:33, 30:33] = 900  # fewer than one pixel in a hundred
    dicom(tmp_path / "a.dcm", pixels)
    nib.save(nib.Nifti1Image(np.stack([pixels] * 3, axis=2), np.eye(4)), tmp_path / "a.nii")
    for scan in find([tmp_path], ["grey"])[0]:
        assert {int((image == 255).sum()) for image in scan.read().images} == {9}


def test_what_cannot_be_written_to_is_refused_before_anything_is_computed(classifier, tmp_path, monkeypatch, capsys):
    scan, file = image(tmp_path / "a.png"), tmp_path / "file"
    file.touch()

    def full(*_) -> None:
        raise OSError(28, "No space left on device", "a.png")

    monkeypatch.setattr("utils.predict.verdict.write", full)
    assert main([str(scan), "--output", str(tmp_path / "out")]) == 1
    assert "error: [Errno 28] No space left on device" in capsys.readouterr().err
    monkeypatch.setattr("utils.predict.verdict.ask", lambda *_: pytest.fail("nothing is computed"))
    for to in (file, file / "out"):
        assert main([str(scan), "--output", str(to)]) == USAGE
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and str(tmp_path) in line and "; name a" in line


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """Images of every kind that `own` reads, of two classes; their folder."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    for label, seed in (("glioma", 0), ("notumor", 50)):
        folder = tmp_path / "mine" / label
        folder.mkdir(parents=True)
        images = [head(seed + i, 140) for i in range(6)]
        Image.fromarray(np.dstack([images[0]] * 3)).save(folder / "0.jpg")
        Image.fromarray(images[1].astype(np.uint16) * 128).save(folder / "1.png")
        Image.fromarray(images[2]).save(folder / "2.tif")
        dicom(folder / "3.dcm", images[3].astype(np.int16) * 7)
        volume = np.stack([images[4].T, head(seed + 9, 140).T], -1)
        nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 3, 1])), folder / "4.nii.gz")
        Image.fromarray(images[5]).save(folder / "5.bmp")
    return tmp_path / "mine"


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet"])
def test_a_new_file_is_predicted_as_the_packed_image_made_of_it(name, roots, own):
    assert download.main(["own", "--folder", str(own), "--size", "96", "--workers", "1"]) == 0
    model, paths = SavedModel(save_model("own", name)), read_manifest("own").path
    packed = ImageDataset("own", np.arange(len(paths)), image_size=64)
    expected = predict(model.network, model.task, packed)
    found = {scan.name: scan.read() for scan in find([own], model.preparation.channels)[0]}
    for row, path in enumerate(paths):
        file, _, number = path.partition(".gz/")
        slices = found[file + ".gz" if number else file]
        pixels = model.prepare([slices.raws[slices.numbers.index(int(number or 0))]])
        assert np.array_equal(pixels[0], packed.batch([row])["image"][0]), path
        assert model.predict(pixels).probabilities == pytest.approx(expected[row : row + 1], abs=1e-6), path


def test_the_card_says_with_which_crop_and_size_the_set_was_packed(own):
    """Not what the catalogue says of it: the set may have been brought in otherwise."""
    options = ["--folder", str(own), "--size", "80", "--crop", "none", "--workers", "1"]
    assert download.main(["own", *options]) == 0
    entries = expected_input(Run(dataset="own", split="patient", model="CustomCNN", image_size=64))
    assert (entries["crop"], entries["stored_size"], entries["size"]) == ("none", 80, 64)
    assert Preparation.of_card(entries).as_card() == entries


@pytest.mark.parametrize("change", [{"crop": "margin"}, {"stored_size": 90}, {"size": 60}, {"view": "clahe"}])
def test_every_entry_of_the_preparation_matters(change):
    preparation = Preparation(("grey",), "none", 96, "stored", 64)
    raw = RawImage(head(3, 140))
    changed = replace(preparation, **change)(raw)
    assert changed.shape != (1, 64, 64) or not np.array_equal(changed, preparation(raw))


def test_a_preparation_that_is_not_known_is_refused():
    entries = Preparation(("grey",), "s2", 256, "stored", 128).as_card()
    for name, value in (("crop", "s3"), ("view", "x"), ("scaling", "z-score"), ("interpolation", "cubic")):
        with pytest.raises(UnknownName, match=f"unknown {name} '{value}'"):
            Preparation.of_card(entries | {name: value})
    with pytest.raises(DataError, match="this version reads"):
        Preparation.of_card(entries | {"rotation": 90})


RUNS = {
    "transfer/brain-tumor-mri/brain-tumor-mri.patient-f0.SqueezeNet.ours-pretrained.seed0": folders,
    "multitask/brain-tumor-mri/brain-tumor-mri.patient-f0.MultiTaskUNet.s0-n8.seed0": folders,
    "classification/brain-tumor-mri/brain-tumor-mri.published.CustomCNN.s2.seed0": folders,
    "classification/cheng/cheng.patient-f0.CustomCNN.s2.seed0": cheng,
}


@pytest.mark.real
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.split("/")[-1])
def test_publishers_files_are_predicted_as_committed(run, real_sets):
    """From the publisher's own file to the probabilities in saved_metrics/, which have five digits. Those of a GPU,
    whose convolutions round float32 to TF32, differ from those of a CPU by less than a hundredth (measured: .004 at
    most on 1,406 images)."""
    model = SavedModel(REPO / "saved_models" / run)
    table = pd.read_csv(REPO / "saved_metrics" / run / "predictions.csv.gz").sample(16, random_state=0)
    name = run.split("/")[1]
    raw = catalog.dataset_dir(name) / "raw"
    dataset = catalog.get(name)
    raws = [replace(image, mask=None) for path in table.path for image in RUNS[run].read(dataset, raw, path)]
    found = model.predict(model.prepare(raws)).probabilities
    expected = table[[f"p_{name}" for name in model.classes]].to_numpy()
    on_gpu = json.loads((REPO / "saved_metrics" / run / "metrics.json").read_text()).get("hardware", {}).get("gpu")
    differs = np.abs(found - expected).max(1) > (1e-2 if on_gpu else 2e-5)
    if RUNS[run] is cheng:  # where the crop was widened to hold the tumour, a new image cannot be cropped so
        assert differs.mean() < 0.2
    else:
        assert not differs.any(), table.path[differs].tolist()
        assert (np.array(model.classes)[model.decide(found)] == table.predicted).all()
