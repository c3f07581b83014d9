"""Networks with several outputs: names and outlines of one that knows the answer; reconstructions."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_training import CLASSES
from torch import nn

from datasets.catalog import HEALTHY
from datasets.splitting import make_split
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from models import MultiTaskUNet
from utils.evaluation import reconstruction
from utils.evaluation.outlining import describe, evaluate_outlines, patients
from utils.training.tasks import MultiTask
from utils.training.tasks.localisation import Outlining


class Knows(nn.Module):
    """Its input is the mask; it outlines all of it, or its upper half, as glioma, and names everything class 0."""

    def __init__(self, half: bool = False):
        super().__init__()
        self.half, self.weight = half, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        tumour = x.clone()
        if self.half:
            tumour[:, :, x.shape[2] // 2 :] = 0
        outline = torch.cat([20 * (1 - tumour) - 10, 20 * tumour - 10, *[torch.full_like(x, -50)] * 2], dim=1)
        return {"classes": torch.eye(4)[[0] * len(x)], "outline": outline}


class Task(Outlining):
    def inputs(self, batch):
        return batch["mask"].amax(1, keepdim=True).float()


@pytest.fixture
def data(roots) -> ImageDataset:
    return ImageDataset("phantom", np.arange(len(read_manifest("phantom"))), image_size=64, masks=True)


def table_of(data: ImageDataset, half: bool) -> pd.DataFrame:
    probs, outlines = describe(Knows(half), Task(4, 2), data)
    manifest = read_manifest("phantom")
    assert probs.shape == (len(manifest), 4) and (probs.argmax(1) == 0).all()
    return pd.concat([manifest[["label", "patient"]], outlines], axis=1)


def test_a_network_that_outlines_the_mask_scores_one_everywhere(data):
    table, masks = table_of(data, half=False), read_masks("phantom", data.rows).any(axis=1)
    marked = masks.any(axis=(1, 2))
    assert (table.tp.notna() == marked).all() and (table.tp[marked] == masks[marked].sum(axis=(1, 2))).all()
    assert not table.fp[marked].any() and not table.fn[marked].any() and (table.found[~marked] == 0).all()
    found = evaluate_outlines(table)
    assert found["outlined"] == marked.sum() and found["healthy"]["value"] == 1
    assert all(found[name]["value"] == 1 for name in ("dice", "dice_slices", "pointing"))
    for name, images in (("healthy", table.label == HEALTHY), ("pointing", marked)):
        exact = 0.025 ** (1 / table.patient[images].nunique())
        assert found[name]["low"] == pytest.approx(exact, abs=1e-6) and found[name]["high"] == 1
    assert found["energy"]["value"] > 0.99 and found["area"]["value"] == pytest.approx(masks[marked].mean(), abs=1e-6)


def test_dice_adds_the_slices_of_a_patient_before_it_is_averaged(data):
    table, masks = table_of(data, half=True), read_masks("phantom", data.rows).any(axis=1)
    whole = pd.Series(masks.sum(axis=(1, 2))).groupby(table.patient).sum()
    upper = pd.Series(masks[:, :32].sum(axis=(1, 2))).groupby(table.patient).sum()
    wanted = (2 * upper / (upper + whole))[whole > 0]
    found = evaluate_outlines(table)
    assert found["dice"]["value"] == pytest.approx(wanted.mean(), abs=1e-6) and 0 < found["dice"]["value"] < 1
    assert found["dice"]["low"] < found["dice"]["value"] < found["dice"]["high"]
    _, without = describe(Knows(), Task(4, 2, outline=False), data)
    assert without.empty and evaluate_outlines(read_manifest("phantom")) == {}


def test_who_is_on_an_image_is_the_patient_else_the_group(roots, monkeypatch):
    manifest, rows = read_manifest("phantom"), np.array([3, 7])
    assert patients("phantom", rows, np.array(["a", "b"])).tolist() == manifest.patient[rows].tolist()
    unknown = manifest.assign(patient="")
    monkeypatch.setattr("utils.evaluation.outlining.read_manifest", lambda name: unknown)
    monkeypatch.setattr("utils.evaluation.outlining.read_splits", lambda name, manifest: None)
    assert patients("phantom", rows, np.array(["a", "b"])).tolist() == ["a", "b"]


def test_reconstruction_errors_are_compared_with_those_of_the_healthy():
    table = pd.DataFrame({"label": ["notumor"] * 3 + ["glioma"] * 3 + ["pituitary"], "group": list("abcdefg")})
    table["error"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.25]
    found = reconstruction.anomaly(table, CLASSES, resamples=50)
    values = {name: entry["value"] for name, entry in found.items()}
    assert values == pytest.approx({"tumour": 11 / 12, "glioma": 1.0, "meningioma": None, "pituitary": 2 / 3}, abs=1e-6)
    exact = pytest.approx(0.025 ** (1 / 3), abs=1e-6)
    assert found["glioma"]["low"] == exact, "three pairs that share no group, all ranked right"


def test_a_description_of_every_image_in_order(roots):
    torch.manual_seed(0)
    data = ImageDataset("phantom", make_split("phantom").test, image_size=32)
    net, task = MultiTaskUNet(width=2), MultiTask(4, 2)
    found = reconstruction.describe(net, task, data)
    assert found["probabilities"].shape == (len(data), 4)
    images, drawn = reconstruction.reconstructions(net, task, data, [3, 0])
    assert found["error"][[3, 0]] == pytest.approx(((images - drawn) ** 2).mean((1, 2)), rel=1e-4)
    net, task = MultiTaskUNet(width=2, reconstruct=False), MultiTask(4, 2, reconstruct=False)
    assert "error" not in reconstruction.describe(net, task, data)
