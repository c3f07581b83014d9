"""Reconstruction errors and the latent of a multi-task network."""

import pandas as pd
import pytest
import torch
from multitask_images import CLASSES, HEALTHY

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import MultiTaskUNet
from utils.evaluation.reconstruction import anomaly, describe, reconstructions
from utils.training.tasks import MultiTask


def test_reconstruction_errors_are_compared_with_those_of_the_healthy():
    table = pd.DataFrame({"label": ["notumor"] * 3 + ["glioma"] * 3 + ["pituitary"], "group": list("abcdefg")})
    table["error"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.25]
    found = anomaly(table, CLASSES, resamples=50)
    values = {name: entry["value"] for name, entry in found.items()}
    assert values == pytest.approx({"tumour": 11 / 12, "glioma": 1.0, "meningioma": None, "pituitary": 2 / 3}, abs=1e-6)
    exact = pytest.approx(0.025 ** (1 / 3), abs=1e-6)
    assert found["glioma"]["low"] == exact, "three pairs that share no group, all ranked right"


def test_a_description_of_every_image_in_order(roots):
    torch.manual_seed(0)
    data = ImageDataset("phantom", make_split("phantom").test, image_size=32)
    net, task = MultiTaskUNet(width=2), MultiTask(4, HEALTHY)
    found = describe(net, task, data)
    assert found["latent"].shape == (len(data), 256) and found["probabilities"].shape == (len(data), 4)
    images, drawn = reconstructions(net, task, data, [3, 0])
    assert found["error"][[3, 0]] == pytest.approx(((images - drawn) ** 2).mean((1, 2)), rel=1e-4)
    assert "error" not in describe(MultiTaskUNet(width=2, reconstruct=False), MultiTask(4, 2, reconstruct=False), data)
