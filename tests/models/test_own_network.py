"""A student's network: ten lines in a file of its own, one name in `models/__init__.py`, and chapter 2 trains it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict

import pandas as pd
import pytest
import torch
from small_training import fine_tune

from datasets.catalog import REPO, DataError
from models import build_backbone
from utils.recipes import get_recipe
from utils.report.weights import load_weights, save_weights
from utils.run import TASKS, Run

TINY_NET = """
from torch import nn


class TinyNet(nn.Sequential):
    def __init__(self, *, num_classes, in_channels, image_size):
        super().__init__(
            nn.Conv2d(in_channels, 8, 5, stride=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, num_classes),
        )
"""


def test_a_network_in_two_files_is_trained_in_chapter_2_and_found_in_the_results(roots, tmp_path):
    copy = tmp_path / "repository"
    shutil.copytree(REPO / "models", copy / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models/tiny_net.py").write_text(TINY_NET)
    registry = copy / "models/__init__.py"
    text = registry.read_text().replace("VGG16, ViT)}", "VGG16, ViT, TinyNet)}")
    registry.write_text(f"from models.tiny_net import TinyNet\n{text}")
    command = [sys.executable, "-m", "utils.headless", str(REPO / "notebooks/2_classification.ipynb")]
    command += ["-p", "model", "TinyNet", "-p", "recipe", "s2", "-p", "image_size", "64", "-p", "epochs", "2"]
    env = os.environ | {"PYTHONPATH": f"{copy}:{REPO}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert not done.returncode, done.stdout[-1500:] + done.stderr[-1500:]
    folder = tmp_path / "runs/phantom.published.TinyNet.s2-64px-quick.seed0"
    record = json.loads((folder / "metrics.json").read_text())
    assert record["run"]["model"] == "TinyNet" and record["recipe"]["name"] == "s2"
    assert record["metrics"]["accuracy"]["low"] <= record["metrics"]["accuracy"]["value"] and record["confusion"]
    assert len(pd.read_csv(folder / "history.csv")) == 2 and (folder / "card.json").is_file()
    assert "TinyNet" in done.stdout and "test accuracy" in done.stdout


@pytest.mark.parametrize("name", ["test_vit", "test_byobnet.r160_in1k"])
def test_any_network_of_timm_is_fine_tuned_saved_and_loaded(name, parts, tmp_path):
    """Those named here are timm's own for tests."""
    net, before, _ = fine_tune(parts, tmp_path, name=name, recipe="s1")
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    first = next(key for key in before if key.startswith("backbone"))
    assert "head.out.weight" in changed and first not in changed, "frozen but for the last layers"
    run = Run(dataset="phantom", split="patient", model=name, recipe="s1", pretrained=False, image_size=64)
    record = {"recipe": asdict(get_recipe("s1", name)), "run": asdict(run), "data": {}, "training": {}, "groups": 5}
    record["metrics"] = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in TASKS["transfer"]}
    again = load_weights(save_weights(net, run, record))
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(x), net.cpu().eval()(x))


def test_a_network_that_is_no_backbone_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown backbone 'resnet81'; did you mean 'resnet18'"):
        build_backbone("resnet81")
    with pytest.raises(ValueError, match="coat_tiny cannot be a backbone at this size"):
        build_backbone("coat_tiny", image_size=64)
    with pytest.raises(DataError, match="unknown model 'resnet18'"):
        Run(dataset="phantom", model="resnet18")
