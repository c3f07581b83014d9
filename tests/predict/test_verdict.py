"""One verdict a scan, which follows from what is shown and contradicts nothing; sizes, and numbers of the model."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import dicom, series
from own_images import head
from PIL import Image
from pydicom.uid import generate_uid
from saved_model import save_model

from datasets.catalog import REPO, DataError
from datasets.store.preprocess import crop_box
from utils.files import write_sealed
from utils.predict.__main__ import DONE, main
from utils.predict.calibration import note_elsewhere
from utils.predict.model import Prediction, SavedModel, about
from utils.predict.prepare import Scan, find, is_written
from utils.predict.verdict import LIKELY, NONE, UNDECIDED, ask, draw, write
from utils.report.weights import CARD


@pytest.fixture
def slices(tmp_path) -> Scan:
    """A scan of three slices."""
    frames = np.stack([head(seed, 96) for seed in (1, 2, 3)]).astype(np.int16)
    ((scan,), _) = find([dicom(tmp_path / "frames.dcm", frames)], ["grey"])
    return scan


def scan_of(files) -> Scan:
    return find([files / "a.jpg"], ["grey"])[0][0]


def outline_everything(model: SavedModel, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the model is asked, it outlines the whole image."""
    found = model.predict(model.prepare(scan.read().raws))
    everywhere = Prediction(found.probabilities, np.ones_like(found.masks), found.features)
    monkeypatch.setattr(model, "predict", lambda pixels: everywhere)


MIXED = [[0.97, 0.01, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01]]
KINDS = [[0.2, 0.15, 0.55, 0.1]] * 3  # a tumour is less likely than none, though more so than each kind
CASES = {  # network → what it says of the slices, its temperature; the kind that is named, and the class of each slice
    "before calibration the mean is .59 for a glioma": ("CustomCNN", MIXED, 0.2, "meningioma", [0, 1, 1]),
    "a hierarchical model": ("MultiTaskUNet", KINDS, 1.0, "", [2, 2, 2]),
    "from p(tumour) = .5 on a tumour": ("MultiTaskUNet", KINDS, 2.0, "glioma", [0, 0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_answer_follows_from_the_calibrated_probabilities_that_are_shown(case, roots, slices, monkeypatch):
    name, said, temperature, expected, of_slices = CASES[case]
    weights = save_model("phantom", name)
    card = json.loads(weights.with_name(CARD).read_text())
    write_sealed(weights.with_name(CARD), card | {"calibration": {"temperature": temperature, "threshold": 0.5}})
    model = SavedModel(weights)
    found = Prediction(np.array(said), None, model.predict(model.prepare(slices.read().raws)).features)
    monkeypatch.setattr(model, "predict", lambda pixels: found)
    asked = ask(model, slices)
    classes = asked.answer.classes
    assert asked.answer.named == expected and asked.predicted.tolist() == of_slices and asked.answer.calibrated
    assert asked.answer.verdict == (LIKELY if expected else NONE)
    if name == "MultiTaskUNet":
        assert max(classes, key=classes.get) == "notumor" and (classes["notumor"] > 0.5) == (not expected)
    else:
        assert max(classes, key=classes.get) == expected


def test_a_classifier_that_outlines_the_tumour_gives_name_and_outline(roots, files):
    model = SavedModel(save_model("phantom", "OutlineClassifier"))
    asked = ask(model, scan_of(files))
    with torch.no_grad():
        tumour = model.task.where(model.network(model.task.inputs({"image": asked.pixels})))[0].numpy()
    assert asked.answer.verdict == UNDECIDED and list(asked.answer.masks) == ["tumour"]
    assert asked.masks[0].shape == (1, *asked.slices.images[0].shape[:2])
    share = asked.answer.masks["tumour"]["pixels"] / (asked.masks[0] > 0).sum()
    assert share == pytest.approx((tumour > 0.5).mean(), abs=0.05)
    assert "the Dice coefficient of its outlines was 50.0 % (40.0–60.0)" in asked.answer.about[0]
    assert asked.answer.masks["tumour"]["area_mm2"] is None and " px" in asked.answer.row()["outlined"]


@pytest.mark.parametrize("air", [0, 1])
def test_an_outline_lies_where_its_crop_was_cut_from_the_image_and_in_the_head(air, roots, tmp_path, monkeypatch):
    model = SavedModel(save_model("phantom", "OutlineClassifier"))
    model.preparation = replace(model.preparation, crop="margin")
    image = np.full((96, 128), air, np.uint8)
    image[30:90, 50:120] = np.linspace(120, 250, 70)
    Image.fromarray(image).save(tmp_path / "a.png")
    ((scan,), _) = find([tmp_path / "a.png"], ["grey"])
    outline_everything(model, scan, monkeypatch)
    top, bottom, left, right = crop_box(image, "margin")
    expected = np.zeros(image.shape)
    expected[top:bottom, left:right] = 1
    expected *= image > 0
    assert top > 0 and left > 0 and np.array_equal(ask(model, scan).masks[0][0], expected)


def test_an_outline_of_dicom_files_is_a_dicom_seg_of_them(roots, tmp_path):
    model, uid = SavedModel(save_model("phantom", "OutlineClassifier")), generate_uid()
    paths, known = series(tmp_path / "series", uid), {"StudyInstanceUID": uid, "FrameOfReferenceUID": uid}
    (scan,), _ = find([tmp_path / "series"], ["grey"])
    write(model, scan, asked := ask(model, scan), tmp_path)
    assert "No DICOM SEG was written" in asked.answer.warnings[-1] and len(asked.answer.written) == 1
    for path in paths:
        tags = pydicom.dcmread(path)
        for name, value in (known | {"PixelSpacing": [1, 1], "SliceThickness": 1}).items():
            setattr(tags, name, value)
        tags.save_as(path)
    write(model, scan, asked := ask(model, scan), tmp_path)
    segmentation = highdicom.seg.segread(asked.answer.written[1])
    assert all(is_written(Path(path)) for path in asked.answer.written), "which is asked about by no later command"
    assert not any("DICOM SEG" in line for line in asked.answer.warnings) and segmentation.StudyInstanceUID == uid
    sources = [pydicom.dcmread(path).SOPInstanceUID for path in scan.files]
    marked = segmentation.get_pixels_by_source_instance(sources, ignore_spatial_locations=True)
    expected = np.stack(asked.masks).transpose(0, 2, 3, 1) > 0.5
    assert expected.any() and not expected.all() and np.array_equal(marked, expected)
    (segment,) = segmentation.SegmentSequence
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert segment.SegmentLabel == "tumour" and algorithm.AlgorithmVersion == model.card["sha256"]
    assert segment.SegmentAlgorithmName == model.name[:64] and model.name in algorithm.AlgorithmParameters


def test_findings_are_called_by_their_own_thresholds(roots, files, tmp_path):
    """Probabilities of findings stay as they are, since any number of them may be shown at once."""
    weights = save_model("phantom", "SqueezeNet", target="findings")
    model, scan = SavedModel(weights), scan_of(files)
    answer = ask(model, scan).answer
    assert answer.verdict == UNDECIDED and list(answer.findings) == list(answer.classes) == ["NCR", "ED", "ET"]
    card = json.loads(weights.with_name(CARD).read_text())
    limits = {name: share + change for (name, share), change in zip(answer.classes.items(), (-0.1, 0.1), strict=False)}
    write_sealed(weights.with_name(CARD), card | {"thresholds": limits | {"ET": None}})
    answer = ask(SavedModel(weights), scan).answer
    assert {name: entry["above"] for name, entry in answer.findings.items()} == {"NCR": True, "ED": False, "ET": None}
    assert answer.headline() == answer.row()["verdict"] == "finding likely: NCR"
    with torch.no_grad():
        logits = model.network(model.task.inputs({"image": model.prepare(scan.read().raws)}))
    assert list(answer.classes.values()) == pytest.approx(logits.sigmoid()[0].tolist(), abs=1e-4)
    assert main([str(weights.parent), str(files / "a.jpg"), "--output", str(tmp_path / "out")]) == DONE
    assert (tmp_path / "out/a.jpg.png").is_file()


NUMBER = r"\d[\d,.]*\d|\d"


def numbers_of(entry: object) -> set[str]:
    """All numbers of a card, as counts and in percent."""
    if isinstance(entry, dict | list):
        return set().union(*map(numbers_of, entry.values() if isinstance(entry, dict) else entry), [])
    return {f"{100 * entry:.1f}", f"{entry:,}"} if isinstance(entry, int | float) else set()


# ---- the rule, for any probabilities -------------------------------------------------------------------


@pytest.mark.parametrize("network", ["CustomCNN", "MultiTaskUNet", "OutlineClassifier"])
def test_no_answer_names_a_kind_beside_another_verdict(network, roots, files, monkeypatch):
    """Random probabilities, thresholds and outlines, unlike the training or not, with and without a threshold."""
    model, scan, rng = SavedModel(save_model("phantom", network)), scan_of(files), np.random.default_rng(0)
    found, seen, kinds = model.predict(model.prepare(scan.read().raws)), set(), set(model.classes) - {"notumor"}
    for _ in range(300):
        model.threshold = rng.choice([None, rng.uniform(0.02, 0.98)], p=[0.1, 0.9])
        outlined = None if found.masks is None else np.full_like(found.masks, rng.random() < 0.5)
        random = Prediction(rng.dirichlet([0.5] * len(model.classes), 1), outlined, found.features)
        monkeypatch.setattr(model, "predict", lambda pixels, random=random: random)
        unlike = rng.random() < 0.1
        model.familiarity = SimpleNamespace(threshold=1.0, distance=lambda _, unlike=unlike: np.array([2.0 * unlike]))
        model.card["familiarity"] = {"false_alarms": 0.05}
        answer = ask(model, scan).answer
        seen.add(answer.verdict)
        said = " ".join([answer.headline(), answer.because, *answer.warnings, *answer.about])
        assert {kind for kind in kinds if kind in said} == ({answer.named} if answer.verdict == LIKELY else set())
        above = model.threshold is not None and answer.tumour["probability"] >= model.threshold - 1e-5
        if answer.verdict == LIKELY:
            assert above and answer.named in kinds and not unlike
        elif answer.verdict == NONE:
            assert not above and "nothing" in answer.row().get("outlined", "nothing")
        assert answer.verdict == UNDECIDED or (model.threshold is not None and not unlike)
        numbers = re.findall(NUMBER, re.sub("'.*?'|probability of a tumour .*? %", "", said))
        on_the_card = numbers_of(model.card | {"threshold": model.threshold}) | {"5"}  # false alarms in percent
        assert set(numbers) <= on_the_card
    assert seen == {LIKELY, NONE, UNDECIDED}


def test_a_model_that_was_trained_on_tumours_alone_is_undecided(classifier, files):
    classifier.healthy = None
    answer = ask(classifier, scan_of(files)).answer
    assert (answer.verdict, answer.named) == (UNDECIDED, "") and "no images without a tumour" in answer.because


# ---- sizes ---------------------------------------------------------------------------------------------


def test_areas_and_volumes_are_those_of_the_files(tmp_path):
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": "1.2", "PixelSpacing": [0.5, 0.25]}
    for z in (0, 4, 8):
        dicom(tmp_path / f"s/{z}.dcm", head(z).astype(np.int16), ImagePositionPatient=[0, 0, z], **place)
    dicom(tmp_path / "one.dcm", head(1).astype(np.int16), **place)
    dicom(tmp_path / "none.dcm", head(1).astype(np.int16))
    dicom(tmp_path / "gap/a.dcm", head(1).astype(np.int16), ImagePositionPatient=[0, 0, 0], **place)
    dicom(tmp_path / "gap/b.dcm", head(2).astype(np.int16), ImagePositionPatient=[0, 0, 4], **place)
    dicom(tmp_path / "gap/c.dcm", head(3).astype(np.int16), ImagePositionPatient=[0, 0, 12], **place)
    voxels, found = np.random.default_rng(0).uniform(1, 9, (20, 24, 6)), {}
    turned = np.array([[0, 0, -0.5, 0], [2, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0, 1]])  # to back, down, right
    for name, affine in {"axial": np.diag([-0.5, -2, 4, 1]), "turned": turned, "unknown": np.eye(4)}.items():
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii")
    for scan in find([tmp_path], ["grey"])[0]:
        found[scan.name.split("/")[0]] = [None if np.isnan(mm) else mm for mm in scan.read().spacing]
    assert found == {
        "s": [4, 0.5, 0.25],
        "one.dcm": [None, 0.5, 0.25],
        "none.dcm": [None] * 3,
        "gap": [None, 0.5, 0.25],
        "axial.nii": [4, 2, 0.5],
        "turned.nii": [4, 2, 0.5],
        "unknown.nii": [None] * 3,
    }


def test_an_outline_is_measured_in_mm_and_ml(roots, tmp_path, monkeypatch):
    model = SavedModel(save_model("phantom", "OutlineClassifier"))
    voxels = np.random.default_rng(0).uniform(1, 9, (20, 24, 3))
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.5, -2, 4, 1])), tmp_path / "v.nii")
    ((scan,), _) = find([tmp_path / "v.nii"], ["grey"])
    outline_everything(model, scan, monkeypatch)
    asked = ask(model, scan)
    pixels, slices = asked.answer.masks["tumour"]["pixels"], 3
    assert asked.answer.masks["tumour"]["area_mm2"] == pytest.approx(pixels / slices, rel=0.01)
    assert asked.answer.masks["tumour"]["volume_ml"] == pytest.approx(pixels * 4 / 1000, abs=1e-3)
    words = draw(model, asked).get_suptitle()
    assert "mm² in its largest slice" in words and " ml" in words and asked.answer.about[0][:40] in words


# ---- what is said of the model -------------------------------------------------------------------------

CARDS = {path.parent.name: json.loads(path.read_text()) for path in REPO.glob(f"saved_models/*/*/*/{CARD}")}
ELSEWHERE = {"value": 0.4581, "low": 0.379, "high": None}
BOTH = {"sensitivity": ELSEWHERE, "specificity": ELSEWHERE, "auc": None}
ONE = BOTH | {"specificity": None}
AUDIT = {"quick": False, "new": {"navoneel": {"tumours": 155, "healthy": 98} | BOTH}}
AUDIT["new"]["together"] = {"tumours": 999, "healthy": 999} | BOTH


@pytest.mark.parametrize("name", CARDS)
def test_every_number_that_is_said_of_a_model_stands_on_its_card(name):
    for card in (CARDS[name], CARDS[name] | {"elsewhere": {"data": "navoneel"} | AUDIT["new"]["navoneel"]}):
        said = re.sub("'.*?'", "", " ".join(about(card)))
        assert set(re.findall(NUMBER, said)) <= numbers_of(card) and "%" in said
        elsewhere = "elsewhere" in card or card["trained_on"]["test_on"]
        assert ("was not tested on images of another collection" in said) != bool(elsewhere)
        outlines = card["task"] == "localisation" and card["arguments"].get("outline", True)
        assert ("Dice" in said) == (outlines or "masks" in card)


def test_an_audit_is_noted_on_the_card_of_its_model(roots, files, capsys):
    folder = save_model("phantom").parent
    audit = AUDIT | {"model": folder.name}
    few = {"navoneel": AUDIT["new"]["navoneel"] | {"sensitivity": None, "specificity": None}}
    for other, message in ((audit | {"model": "x"}, "of another model"), (audit | {"quick": True}, "a quick one"),
                           (audit | {"new": few}, "no other collection with enough images")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            note_elsewhere(folder, other)
    with pytest.raises(DataError, match="no other collection with enough images"):
        note_elsewhere(folder, audit | {"new": {}})
    note_elsewhere(folder, audit | {"new": AUDIT["new"] | {"together": {"tumours": 155, "healthy": 2} | ONE}})
    assert "a tumour in 45.8 % of 155 images with one and none in an unknown share" in SavedModel(folder).about[1]
    note_elsewhere(folder, audit)
    assert main([folder.name, str(files / "a.jpg")]) == DONE
    assert "a tumour in 45.8 % of 999 images with one and none in 45.8 %" in capsys.readouterr().out
    card = json.loads((folder / CARD).read_text())
    assert card["elsewhere"]["data"] == "navoneel"
    assert {"sensitivity", "specificity", "healthy"} <= set(card["elsewhere"])
    write_sealed(folder / CARD, card | {"elsewhere": {"data": "navoneel"}})
    assert main([folder.name, str(files / "a.jpg")]) == 2
    error = capsys.readouterr().err
    assert f"{CARD}: an entry is missing" in error and len(error.splitlines()) == 1
