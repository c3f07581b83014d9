"""What is decided follows from what is shown, over several slices."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from dicom_files import dicom
from own_images import head
from PIL import Image
from saved_model import save_model

from datasets.store.preprocess import crop_box
from utils.files import write_sealed
from utils.predict.__main__ import DONE, main
from utils.predict.model import Prediction, SavedModel
from utils.predict.prepare import Scan, find
from utils.predict.verdict import ask
from utils.report.weights import CARD


@pytest.fixture
def slices(tmp_path) -> Scan:
    """A scan of three slices."""
    frames = np.stack([head(seed, 96) for seed in (1, 2, 3)]).astype(np.int16)
    ((scan,), _) = find([dicom(tmp_path / "frames.dcm", frames)], ["grey"])
    return scan


def scan_of(files) -> Scan:
    return find([files / "a.jpg"], ["grey"])[0][0]


MIXED = [[0.97, 0.01, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01]]
KINDS = [[0.2, 0.15, 0.55, 0.1]] * 3  # a tumour is less likely than none, though more so than each kind
CASES = {  # network → what it says of the slices, its temperature; the answer, and the class of each slice
    "before calibration the mean is .59 for a glioma": ("CustomCNN", MIXED, 0.2, "meningioma", [0, 1, 1]),
    "a hierarchical model": ("MultiTaskUNet", KINDS, 1.0, "notumor", [2, 2, 2]),
    "from p(tumour) = .5 on a tumour": ("MultiTaskUNet", KINDS, 2.0, "glioma", [0, 0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_answer_follows_from_the_calibrated_probabilities_that_are_shown(case, roots, slices, monkeypatch):
    name, said, temperature, expected, of_slices = CASES[case]
    weights = save_model("phantom", name)
    card = json.loads(weights.with_name(CARD).read_text())
    write_sealed(weights.with_name(CARD), card | {"calibration": {"temperature": temperature}})
    model = SavedModel(weights)
    found = Prediction(np.array(said), None, model.predict(model.prepare(slices.read().raws)).features)
    monkeypatch.setattr(model, "predict", lambda pixels: found)
    asked = ask(model, slices)
    classes = asked.answer.classes
    assert asked.answer.answer == expected and asked.predicted.tolist() == of_slices and asked.answer.calibrated
    if name == "MultiTaskUNet":
        assert max(classes, key=classes.get) == "notumor" and (classes["notumor"] > 0.5) == (expected == "notumor")
    else:
        assert max(classes, key=classes.get) == expected


def test_a_classifier_that_outlines_the_tumour_gives_name_and_outline(roots, files):
    model = SavedModel(save_model("phantom", "OutlineClassifier"))
    asked = ask(model, scan_of(files))
    with torch.no_grad():
        tumour = model.task.where(model.network(model.task.inputs({"image": asked.pixels})))[0].numpy()
    assert asked.answer.answer in model.classes and list(asked.answer.masks) == ["tumour"]
    assert asked.masks[0].shape == (1, *asked.slices.images[0].shape[:2])
    share = asked.answer.masks["tumour"]["pixels"] / (asked.masks[0] > 0).sum()
    assert share == pytest.approx((tumour > 0.5).mean(), abs=0.05)
    assert asked.answer.row()["outlined"] and asked.answer.row()["answer"] == asked.answer.answer


def test_an_outline_lies_where_its_crop_was_cut_from_the_image(roots, tmp_path, monkeypatch):
    model = SavedModel(save_model("phantom", "OutlineClassifier"))
    model.preparation = replace(model.preparation, crop="margin")
    image = np.zeros((96, 128), np.uint8)
    image[30:90, 50:120] = np.linspace(120, 250, 70)
    Image.fromarray(image).save(tmp_path / "a.png")
    ((scan,), _) = find([tmp_path / "a.png"], ["grey"])
    found = model.predict(model.prepare(scan.read().raws))
    everywhere = Prediction(found.probabilities, np.ones_like(found.masks), found.features)
    monkeypatch.setattr(model, "predict", lambda pixels: everywhere)
    top, bottom, left, right = crop_box(image, "margin")
    expected = np.zeros(image.shape)
    expected[top:bottom, left:right] = 1
    assert top > 0 and left > 0 and np.array_equal(ask(model, scan).masks[0][0], expected)


def test_findings_are_called_by_their_own_thresholds(roots, files, tmp_path):
    """Probabilities of findings stay as they are, since any number of them may be shown at once."""
    weights = save_model("phantom", "SqueezeNet", target="findings")
    model, scan = SavedModel(weights), scan_of(files)
    answer = ask(model, scan).answer
    assert "undecided" in answer.answer and list(answer.findings) == list(answer.classes) == ["NCR", "ED", "ET"]
    card = json.loads(weights.with_name(CARD).read_text())
    limits = {name: share + change for (name, share), change in zip(answer.classes.items(), (-0.1, 0.1), strict=False)}
    write_sealed(weights.with_name(CARD), card | {"thresholds": limits | {"ET": None}})
    answer = ask(SavedModel(weights), scan).answer
    assert {name: entry["found"] for name, entry in answer.findings.items()} == {"NCR": True, "ED": False, "ET": None}
    assert answer.answer == "NCR" and answer.row()["answer"] == "NCR"
    with torch.no_grad():
        logits = model.network(model.task.inputs({"image": model.prepare(scan.read().raws)}))
    assert list(answer.classes.values()) == pytest.approx(logits.sigmoid()[0].tolist(), abs=1e-4)
    assert main([str(weights.parent), str(files / "a.jpg"), "--output", str(tmp_path / "out")]) == DONE
    assert (tmp_path / "out/a.jpg.png").is_file()
