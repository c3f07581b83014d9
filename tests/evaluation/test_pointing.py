"""Pointing: counts that are known by hand, on maps that are made; and a network that is built to look at one place."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from models import MultiTaskUNet
from utils.evaluation.pointing import SIZES, TOLERANCE, at_size, point, pointing_table, summarise, widened
from utils.evaluation.saliency import grad_cam
from utils.training.tasks.multitask import joint_probabilities


def test_hits_and_energy_are_those_counted_by_hand():
    masks = np.zeros((5, 4, 4), np.uint8)
    masks[:, :2, :2] = 1
    assert point(np.ones((1, 4, 4)), masks[:1])["near"] == 1, "so small an image is near as a whole"
    heat = np.zeros((5, 4, 4))
    heat[0, 0, 0], heat[0, 3, 3] = 3, 1  # the maximum inside, three quarters of the energy
    heat[1, 3, 0] = 1  # all of it outside
    heat[2, 0, 1] = heat[2, 2, 2] = 2  # two equal maxima, one of them inside
    heat[4] = 1  # everywhere alike: chance
    found = point(heat, masks)
    assert found["pointing"].tolist() == [1, 0, 0.5, 0, 0.25], "a map that is 0 everywhere points nowhere"
    assert found["energy"].tolist() == [0.75, 0, 0.5, 0, 0.25]


def test_a_maximum_near_the_outline_is_near_it_and_no_further():
    masks, heat = np.zeros((3, 64, 64), np.uint8), np.zeros((3, 64, 64))
    masks[:, 20:24, 20:24] = 1
    for i, column in enumerate((22, 23 + TOLERANCE, 24 + TOLERANCE)):
        heat[i, 22, column] = 1
    found = point(heat, masks)
    assert found["near"].tolist() == [1, 1, 0] and found["pointing"].tolist() == [1, 0, 0]
    assert widened(masks)[0].sum() == widened(masks)[1].sum() > masks[0].sum()


class LooksAtTumour(nn.Module):
    """Its last convolution passes on a map that is put in beside the image; class 1 is its mean."""

    def __init__(self, moved: int = 0):
        super().__init__()
        self.moved, self.conv = moved, nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, x):
        bright = self.conv(torch.roll(x, self.moved, dims=3)).mean((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("moved", [0, 32])
def test_a_network_that_looks_at_the_tumour_points_there_and_one_that_looks_beside_it_does_not(roots, moved):
    area = read_masks("phantom", np.arange(len(read_manifest("phantom")))).any(axis=1).mean(axis=(1, 2))
    rows = np.r_[np.flatnonzero((area > 0.02) & (area < 0.2))[:6], np.flatnonzero(area == 0)[:2]]
    data = ImageDataset("phantom", rows, image_size=64, masks=True)

    def inputs(batch):
        return batch["mask"].amax(1, keepdim=True).float()

    table = pointing_table(LooksAtTumour(moved), data, inputs, lambda outputs: outputs, batch_size=3)
    assert table.row.tolist() == rows[:6].tolist(), "images without a tumour are left out"
    assert np.allclose(table.area, area[rows[:6]]) and (table.predicted == 1).all() and not table.blank.any()
    values = table[["pointing", "energy"]].to_numpy()
    assert (values == 1).all() if not moved else (values < 0.5).all()
    grey = data.batch(range(6))["image"][:, 0].numpy()
    wanted = point(grey.astype(float), read_masks("phantom", rows[:6]).any(axis=1))
    assert np.allclose(table.bright_pointing, wanted["pointing"]) and np.allclose(table.bright_energy, wanted["energy"])


def test_of_a_multi_task_network_the_bottleneck_is_looked_at():
    torch.manual_seed(0)
    net, x = MultiTaskUNet(width=4).eval(), torch.rand(2, 1, 64, 64)

    def scores(outputs):
        return joint_probabilities(outputs, healthy=2).log()

    kept = []
    net.encoder[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    heat = grad_cam(net, x, torch.tensor([0, 2]), net.encoder[-1], scores)
    gradient = torch.autograd.grad(scores(net(x)).gather(1, torch.tensor([[0], [2]])).sum(), kept[-1])[0]
    wanted = (gradient.mean((2, 3), keepdim=True) * kept[-1]).sum(1).relu().detach().numpy()
    wanted = at_size(wanted, 64)
    assert np.allclose(heat, wanted / np.maximum(wanted.max(axis=(1, 2), keepdims=True), 1e-12), atol=1e-5)


def test_groups_are_counted_by_class_size_and_decision_with_intervals_over_patients():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "label": ["glioma", "glioma", "pituitary", "pituitary"] * 10,
            "predicted": ["glioma", "pituitary", "pituitary", "pituitary"] * 10,
            "patient": np.repeat([f"p{i}" for i in range(10)], 4),
            "area": [0.01, 0.02, 0.05, 0.005] * 10,
            "pointing": [1.0, 0.0, 1.0, 1.0] * 10,
            "energy": rng.random(40),
            "near": [1.0, 0.0, 1.0, 1.0] * 10,
            "near_area": [0.1] * 40,
            "bright_pointing": [0.0] * 40,
            "bright_near": [0.0, 0.0, 1.0, 0.0] * 10,
            "bright_energy": rng.random(40),
            "blank": [False, True, False, False] * 10,
        }
    )
    found = summarise(table, resamples=50)
    assert list(found) == ["all", "glioma", "pituitary", *SIZES, "right", "wrong"]
    assert {name: entry["images"] for name, entry in found.items()} == {
        "all": 40, "glioma": 20, "pituitary": 20, "small": 20, "medium": 10, "large": 10, "right": 30, "wrong": 10,
    }  # fmt: skip
    assert found["all"]["pointing"]["value"] == 0.75 and found["wrong"]["pointing"]["value"] == 0
    assert found["all"]["gain"]["value"] == pytest.approx(0.75 - 0.1) and found["all"]["blank"] == 10
    assert found["all"]["gain_bright"]["value"] == 0.5 and found["all"]["patients"] == 10
    table["pointing"] = np.repeat([0.0, 1.0], 20)  # whole patients: the interval must be as wide as ten of them make it
    low, high = (summarise(table, resamples=500)["all"]["pointing"][end] for end in ("low", "high"))
    assert high - low > 0.5
