"""Grad-CAM finds what a network was built to look at; pointing is counted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from models import MultiTaskUNet
from utils.evaluation import saliency
from utils.evaluation.saliency import MEASURED, TOLERANCE, grad_cam, point, pointing_table, summarise
from utils.training.tasks import MultiTask


class LooksAt(nn.Module):
    """Class 1 is the mean of its last convolution, which passes on its input, or the input moved to the side."""

    def __init__(self, moved: int = 0):
        super().__init__()
        self.moved, self.conv = moved, nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, x):
        bright = self.conv(torch.roll(x, self.moved, dims=3)).mean((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def test_grad_cam_points_at_the_spot_and_at_nothing_that_speaks_against_a_class():
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, 22:27, 14:19] = 1
    heat = grad_cam(LooksAt(), x, torch.tensor([1]))[0]
    assert np.array_equal(heat, x[0, 0].numpy())
    assert grad_cam(LooksAt(), x, torch.tensor([0])).max() == 0


def test_hits_and_energy_are_those_counted_by_hand():
    masks, heat = np.zeros((5, 4, 4), np.uint8), np.zeros((5, 4, 4))
    masks[:, :2, :2] = 1
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
    assert (found["area"] == 16 / 64**2).all() and (found["near_area"] > found["area"]).all()


@pytest.mark.parametrize("moved", [0, 32])
def test_a_network_that_looks_at_the_tumour_points_there_and_one_that_looks_beside_it_does_not(roots, moved):
    area = read_masks("phantom", np.arange(len(read_manifest("phantom")))).any(axis=1).mean(axis=(1, 2))
    rows = np.r_[np.flatnonzero((area > 0.02) & (area < 0.2))[:6], np.flatnonzero(area == 0)[:2]]
    data = ImageDataset("phantom", rows, image_size=64, masks=True)

    def inputs(batch):
        return batch["mask"].amax(1, keepdim=True).float()

    table = pointing_table(LooksAt(moved), data, inputs, lambda outputs: outputs)
    assert table.row.tolist() == rows[:6].tolist(), "images without a tumour are left out"
    assert np.allclose(table.area, area[rows[:6]]) and (table.predicted == 1).all() and not table.blank.any()
    values = table[["pointing", "energy"]].to_numpy()
    assert (values == 1).all() if not moved else (values < 0.5).all()
    grey = data.batch(range(6))["image"][:, 0].numpy()
    wanted = point(grey.astype(float), read_masks("phantom", rows[:6]).any(axis=1))
    assert np.allclose(table.bright_pointing, wanted["pointing"]) and np.allclose(table.bright_energy, wanted["energy"])


def test_of_a_multi_task_network_the_bottleneck_is_looked_at(roots):
    torch.manual_seed(0)
    net, marked = MultiTaskUNet(width=4).eval(), read_masks("phantom", np.arange(20)).any(axis=(1, 2, 3))
    data = ImageDataset("phantom", np.flatnonzero(marked)[:2], image_size=64, masks=True)

    def inputs(batch):
        return batch["image"][:, :1].float() / 255

    def scores(outputs):
        return MultiTask(4, healthy=2).scores(outputs)

    x, kept = inputs(data.batch(range(2))), []
    net.encoder[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    logits = scores(net(x))
    gradient = torch.autograd.grad(logits.amax(1).sum(), kept[-1])[0]
    heat = saliency.at_size((gradient.mean((2, 3), keepdim=True) * kept[-1]).sum(1).relu().detach().numpy(), 64)
    table = pointing_table(net, data, inputs, scores)
    assert table.predicted.tolist() == logits.argmax(1).tolist()
    assert table.energy.to_numpy() == pytest.approx(point(heat, read_masks("phantom", data.rows).any(axis=1))["energy"])


def test_pointing_at_every_tumour_is_a_share_of_one_and_a_gain_that_is_0_everywhere_stays_a_difference():
    table = pd.DataFrame({name: np.ones(24) for name in MEASURED}).assign(
        near_area=1.0, area=0.02, label="glioma", predicted="glioma", patient=np.arange(24) // 2, blank=False
    )
    found = summarise(table)
    assert list(found) == ["all", "glioma", "medium", "right"]
    assert found["all"]["near"] == {"value": 1, "low": pytest.approx(0.025 ** (1 / 12), abs=1e-6), "high": 1}
    assert found["all"]["gain"] == {"value": 0, "low": 0, "high": 0} and found["all"]["area"]["low"] == 0.02
