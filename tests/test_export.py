"""Models exported as ONNX answer as in PyTorch, whatever the number of images."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from saved_model import save_model

from datasets.catalog import REPO, DataError
from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, SEGMENTERS
from utils import export as module
from utils.export import AGREES, differences, export, main, run
from utils.predict.model import SavedModel
from utils.run import Run

OURS = ("CustomCNN", "MultiTaskUNet", "AttentionUNet")


@pytest.mark.parametrize("name", [*OURS, "SqueezeNet", "OutlineClassifier"])
def test_onnxruntime_agrees_with_pytorch(name, roots, tmp_path):
    model = SavedModel(save_model("phantom", name))
    path = export(model, tmp_path / "model.onnx")
    for images in (1, 4):
        assert differences(model, path, images) <= AGREES
    pixels = module.example_pixels(model, 2)
    if not model.masks:
        assert run(path, pixels) == pytest.approx(model.predict(pixels).probabilities, abs=AGREES)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["input"]) == model.card["input"] and "Not a medical device" in facts["note"]
    assert json.loads(facts["classes"]) == (model.classes or model.masks)


def test_a_file_that_differs_is_not_written(roots, tmp_path, monkeypatch):
    model = SavedModel(save_model("phantom"))
    monkeypatch.setattr(module, "differences", lambda *args: 2e-4)
    with pytest.raises(DataError, match=r"differs from PyTorch by 2\.0e-04; nothing was written"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_the_command_names_what_it_cannot_find(roots, capsys):
    save_model("phantom")
    assert main(["phantom.patient-f0.CustomCNN.s2-64px.seed9"]) == 1
    assert "did you mean 'phantom.patient-f0.CustomCNN.s2-64px.seed0'" in capsys.readouterr().err


def test_eight_bits_answer_nearly_as_many(roots, tmp_path):
    """Quantised with pixels of its own kind, a network still sees what it saw."""
    model = SavedModel(save_model("phantom"))
    path = export(model, tmp_path / "model.onnx")
    pixels = module.example_pixels(model, 16)
    small = module.quantise(path, pixels)
    assert small.stat().st_size < 0.5 * path.stat().st_size
    assert np.abs(run(small, pixels) - run(path, pixels)).max() < 0.1
    assert not list(tmp_path.glob("*prepared*"))


def test_every_architecture_was_measured():
    """The record of `benchmarks/onnx_export.py`: all that the names in `models/` build."""
    found = json.loads((REPO / "saved_metrics/benchmarks/onnx.json").read_text())
    assert set(found["architectures"]) == set(MODELS) | set(SEGMENTERS) | set(MULTITASK) | set(LOCALISERS) | set(
        BACKBONES
    )
    assert all(entry["difference"] <= AGREES for entry in found["architectures"].values())
    assert all(entry["spread"] > 0.02 for entry in found["architectures"].values()), "answers that differ are compared"
    assert torch.__version__.split("+")[0] == found["versions"]["torch"], "measure again: benchmarks/onnx_export.py"


def test_the_command_of_the_8_bit_record_starts_from_anywhere(tmp_path):
    """onnxruntime puts a folder with a `models` of its own on the path, which a script would import for ours."""
    script = REPO / "benchmarks/onnx_int8.py"
    ran = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "8-bit" in ran.stdout, ran.stderr


def test_8_bits_of_a_model_that_was_tested_on_another_set_are_refused(monkeypatch, tmp_path):
    run_of = Run(dataset="phantom", split="external", test_on="navoneel")
    monkeypatch.setattr(module, "evidence_of", lambda model: (run_of, {}, tmp_path))
    model = SimpleNamespace(name="model", classes=("glioma", "notumor"), findings=False)
    with pytest.raises(DataError, match="model: tested on 'navoneel', another set than its own; leave --int8 out"):
        module.eight_bits(model, tmp_path / "model.onnx")
