"""What is decided follows from what is shown, over several slices and several models."""

import json

import numpy as np
import pytest
from dicom_files import dicom
from own_images import head
from saved_model import save_model

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


def saying(monkeypatch, said: list[list[float]], temperature: float, name: str = "CustomCNN", seed: int = 0):
    """A model of a temperature that says so of the slices, probabilities N×K, whatever they show."""
    weights = save_model("phantom", name, seed=seed)
    card = json.loads(weights.with_name(CARD).read_text())
    weights.with_name(CARD).write_text(json.dumps(card | {"calibration": {"temperature": temperature}}))
    model = SavedModel(weights)
    predict = model.predict

    def same(pixels) -> Prediction:
        return Prediction(np.array(said), None, predict(pixels).features)

    monkeypatch.setattr(model, "predict", same)
    return model


def test_the_answer_about_several_slices_is_the_likeliest_class_that_is_shown(roots, slices, monkeypatch):
    """Before calibration the mean is .59 for a glioma; after it, .41."""
    model = saying(monkeypatch, [[0.97, 0.01, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01], [0.4, 0.58, 0.01, 0.01]], 0.2)
    asked = ask([model], slices)
    answer = asked.answer
    assert answer.answer == max(answer.classes, key=answer.classes.get) == "meningioma"
    assert asked.predicted.tolist() == [0, 1, 1]


def test_the_answer_of_several_models_is_the_likeliest_class_that_is_shown(roots, slices, monkeypatch):
    sure = saying(monkeypatch, [[0.9, 0.08, 0.01, 0.01]] * 3, 8.0)
    unsure = saying(monkeypatch, [[0.3, 0.68, 0.01, 0.01]] * 3, 0.5, seed=1)
    asked = ask([sure, unsure], slices)
    answer = asked.answer
    assert answer.answer == max(answer.classes, key=answer.classes.get) == "meningioma"
    assert asked.predicted.tolist() == [1, 1, 1]


def test_a_hierarchical_model_answers_by_its_rule_for_what_is_shown(roots, slices, monkeypatch):
    """A tumour from p(tumour) = .5 on, although no kind is as likely as "no tumour"."""
    for temperature, decided in ((1.0, "notumor"), (2.0, "glioma")):
        model = saying(monkeypatch, [[0.2, 0.15, 0.55, 0.1]] * 3, temperature, "MultiTaskUNet")
        answer = ask([model], slices).answer
        assert max(answer.classes, key=answer.classes.get) == "notumor"
        assert (answer.classes["notumor"] <= 0.5) == (decided != "notumor") and answer.answer == decided
