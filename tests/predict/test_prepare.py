"""What files and folders are scans of, and that every scan has a name of its own."""

import contextlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import dicom, series
from own_images import head, volume
from PIL import Image
from pydicom.dataset import Dataset
from saved_model import save_model

from datasets.catalog import DataError
from utils.predict.__main__ import DONE, USAGE, main
from utils.predict.prepare import Scan, find
from utils.predict.verdict import ask


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


def test_the_segmentation_beside_a_volume_is_no_scan(tmp_path):
    for name in ("p1_t1.nii.gz", "p1_seg.nii.gz"):
        volume(tmp_path / name)
    scans, (note,) = find([tmp_path], ["grey"])
    assert [scan.name for scan in scans] == ["p1_t1.nii.gz"] and "no scans and were left out, p1_seg.nii.gz" in note


def test_links_to_folders_are_followed_but_for_those_that_never_end(tmp_path):
    image(tmp_path / "elsewhere/a.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/p1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine/up").symlink_to(tmp_path)
    assert list(found(tmp_path / "mine")) == ["p1/a.png"]


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
