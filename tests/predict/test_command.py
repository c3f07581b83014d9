"""`python -m utils.predict`: every kind of file is answered, or refused in one line that names it."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from own_images import head, volume
from PIL import Image
from saved_model import save_model, with_calibration

from datasets.sources import brats, volumes
from utils.predict.__main__ import DONE, NOTHING, SOME, USAGE, main
from utils.predict.prepare import find
from utils.report.weights import NOTE, WEIGHTS


def answers(capsys, *args) -> dict:
    """The answers to a command, which must succeed at least in part."""
    assert main([*map(str, args), "--json"]) in (DONE, SOME)
    return json.loads(capsys.readouterr().out)


def test_files_of_every_kind_are_answered_and_bad_ones_among_them_named(classifier, files, capsys):
    known = {path.name for path in files.iterdir()}
    (files / "p1").mkdir()
    text(files / "p1/broken.png"), text(files / "notes.txt")
    assert main([str(files)]) == SOME
    said = capsys.readouterr()
    assert "skipped: p1/broken.png: not an image" in said.err and "1 files are no scans and were left out" in said.err
    assert all(name in said.out for name in known) and said.out.rstrip().endswith(NOTE)
    report = answers(capsys, files)
    found = {answer["file"]: answer for answer in report["answers"]}
    assert set(found) == known and report["note"] == NOTE
    assert [error["file"] for error in report["errors"]] == ["p1/broken.png"]
    assert all(sum(answer["classes"].values()) == pytest.approx(1, abs=1e-4) for answer in found.values())
    assert found["frames.dcm"]["slices"] == 3 and found["a.jpg"]["slices"] == 1
    assert all(NOTE in answer["note"] for answer in found.values())
    same = [found[name]["classes"]["glioma"] for name in ("b.png", "c.tif", "16 bits.png", "slice.dcm", "jpeg2000.dcm")]
    assert np.ptp(same) < 0.01, "one image in five formats"


def text(path: Path) -> None:
    path.write_text("no image")


def test_a_colour_photograph_and_noise_are_flagged(classifier, tmp_path, capsys):
    for seed in range(60):
        Image.fromarray(head(seed, 96)).save(tmp_path / f"head{seed}.png")
    raws = [scan.read().raws[0] for scan in find([tmp_path], ["grey"])[0]]
    model = with_calibration(classifier.folder / WEIGHTS, classifier.prepare(raws), np.arange(60) % 4)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photograph.png")
    Image.fromarray(noise[..., 0]).save(tmp_path / "noise.png")
    Image.fromarray(255 - head(0, 96)).save(tmp_path / "negative.png")
    found = {answer["file"]: answer for answer in answers(capsys, model.name, tmp_path)["answers"]}
    for name, warning in (("photograph", "colour image"), ("noise", "unlike the images"), ("negative", "a negative")):
        assert any(warning in line for line in found[f"{name}.png"]["warnings"])
    assert found["photograph.png"]["verdict"] == found["noise.png"]["verdict"] == "undecided"
    assert found["photograph.png"]["unlike"]["found"] and found["noise.png"]["unlike"]["found"]
    known = [answer["unlike"]["found"] for name, answer in found.items() if name.startswith("head")]
    assert np.mean(known) <= 0.05, "the false alarms that the threshold was chosen for"
    one = found["head0.png"]
    assert one["calibrated"] and one["tumour"]["threshold"] == 0.5
    assert one["about"] == model.about


def test_a_patient_of_brats_is_outlined_without_a_segmentation(roots, tmp_path, capsys):
    model, names = save_model("phantom", "AttentionUNet").parent.name, ["_t1", "_t1ce", "_t2", "_flair"]
    for k, name in enumerate(names):
        volume(tmp_path / f"patients/P1/P1{name}.nii.gz", seed=k)
    volume(tmp_path / f"patients/P2/P2{names[0]}.nii.gz")
    out, first = tmp_path / "out", tmp_path / f"patients/P1/P1{names[0]}.nii.gz"
    assert main([model, str(tmp_path / "patients"), "--output", str(out), "--json"]) == SOME
    said = capsys.readouterr()
    assert "skipped: P2: no file for T1c, T2, FLAIR among ['P2" in said.err
    (answer,) = json.loads(said.out)["answers"]
    assert answer["slices"] == 5 and set(answer["masks"]) == {"NCR", "ED", "ET"}
    assert answer["verdict"] == "undecided" and "the model outlines" in answer["because"]
    given = nib.load(first)
    for name, part in answer["masks"].items():
        mask = nib.load(out / f"P1-{name}.nii.gz")
        assert mask.shape == given.shape and np.allclose(mask.affine, given.affine)
        assert int(np.asarray(mask.dataobj).sum()) == part["pixels"]
        assert "Not a medical device" in str(mask.header["descrip"].astype(str))
    labels = nib.load(out / "P1-labels.nii.gz")
    masks = np.stack([np.asarray(nib.load(out / f"P1-{name}.nii.gz").dataobj) for name in ("NCR", "ED", "ET")])
    voxels = np.asarray(labels.dataobj)
    assert ((voxels > 0) == masks.any(0)).all() and all((masks[k - 1][voxels == k] == 1).all() for k in (1, 2, 3))
    assert "1 NCR, 2 ED, 3 ET. " in str(labels.header["descrip"].astype(str))
    assert NOTE in Image.open(out / "P1.png").text["Description"]
    assert main([model, str(first)]) == USAGE and "needs T1, T1c, T2, FLAIR together" in capsys.readouterr().err


FLAT = {  # names in one folder → scans that are answered, and what is said of those that are not
    "two patients": (["A_t1", "A_t1ce", "A_t2", "A_flair", "B-t1n", "B-t1c", "B-t2w", "B-t2f"], ["A", "B"], ""),
    "half of each": (["A_t1", "A_t1ce", "B_t2", "B_flair"], [], "no file for T2, FLAIR among ['A_t1.nii"),
    "with others": (
        ["A_t1", "A_t1ce", "A_t2", "A_flair", "A_seg", "A_adc", "B_0001"],
        ["flat"],
        "3 files are no scans and were left out, A_adc.nii, A_seg.nii, B_0001.nii first",
    ),
    "numbers": (
        [f"A_{k:04}" for k in range(4)],
        [],
        "a number does not say which sequence it is: end the names in _t1, _t1ce",
    ),
    "one of them empty": (["A_t1", "A_t1ce", "A_t2", "A_flair="], [], "A_flair.nii: an empty file"),
}


@pytest.mark.parametrize("case", FLAT)
def test_volumes_of_several_patients_in_one_folder_are_told_apart(case, roots, tmp_path, capsys):
    names, expected, said = FLAT[case]
    model = save_model("phantom", "AttentionUNet").parent.name
    for k, name in enumerate(names):
        path = volume(tmp_path / f"flat/{name.rstrip('=')}.nii", seed=k)
        path.write_bytes(b"" if name.endswith("=") else path.read_bytes())
    out = tmp_path / "out"
    assert main([model, str(tmp_path / "flat"), "--output", str(out), "--json"]) == (DONE if expected else NOTHING)
    output = capsys.readouterr()
    answers = json.loads(output.out)["answers"]
    assert [Path(answer["file"]).name for answer in answers] == expected and said in output.err
    assert len(list(out.rglob("*.nii.gz"))) == 4 * len(expected), "three masks and the label map"


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet"])
def test_every_classifier_draws_where_it_looks(name, roots, files, tmp_path):
    weights = save_model("phantom", name)
    assert main([str(weights.parent), str(files / "a.jpg"), "--output", str(tmp_path / "out")]) == DONE
    drawn = np.asarray(Image.open(tmp_path / "out/a.jpg.png").convert("RGB")).astype(int)
    assert np.ptp(drawn, axis=2).max() > 20, "the heat has a colour"


def test_a_mask_lies_where_its_volume_does(tmp_path):
    """A voxel that is marked in the slices is the marked voxel of the file, however the file lies."""
    for affine in (np.diag([-1, -1, 3, 1]), np.diag([1, 1, 3, 1]), np.diag([3, 1, -1, 1])):
        voxels = np.random.default_rng(0).integers(1, 9, (10, 12, 14)).astype(np.float32)
        voxels[2, 3, 4] = 900
        path = tmp_path / "v.nii"
        nib.save(nib.Nifti1Image(voxels, affine), path)
        slices, _ = volumes.read(path)
        back = volumes.as_volume((slices == slices.max()).astype(np.uint8), path, volumes.laid)
        assert np.asarray(back.dataobj)[2, 3, 4] == 1
        layers = brats.read_sequences([path])[..., 0]
        back = volumes.as_volume((layers == layers.max()).astype(np.uint8), path, brats.laid)
        assert np.argwhere(np.asarray(back.dataobj)).tolist() == [[2, 3, 4]]
