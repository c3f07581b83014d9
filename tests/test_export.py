"""Models exported as ONNX answer as in PyTorch, whatever the number of images."""

import json

import onnx
import pytest
from saved_model import save_model

from datasets.catalog import DataError
from utils import export as module
from utils.export import AGREES, example_pixels, export, run
from utils.predict.model import SavedModel


@pytest.mark.parametrize("name", ["CustomCNN", "MultiTaskUNet", "AttentionUNet", "SqueezeNet", "OutlineClassifier"])
def test_onnxruntime_agrees_with_pytorch(name, roots, tmp_path):
    model = SavedModel(save_model("phantom", name))
    path = export(model, tmp_path / "model.onnx")
    pixels = example_pixels(model, 4)
    if not model.masks:
        assert run(path, pixels) == pytest.approx(model.predict(pixels).probabilities, abs=AGREES)
        assert run(path, pixels[:1]) == pytest.approx(run(path, pixels)[:1], abs=AGREES)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["input"]) == model.card["input"] and "Not a medical device" in facts["note"]
    assert json.loads(facts["classes"]) == (model.classes or model.masks)


def test_a_file_that_differs_is_not_written(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run", lambda path, pixels: run(path, pixels) + 2e-4)
    with pytest.raises(DataError, match=r"differs from PyTorch by 2\.0e-04; nothing was written"):
        export(SavedModel(save_model("phantom")), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))
