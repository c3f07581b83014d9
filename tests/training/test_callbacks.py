"""Callbacks: statistics of gates and gradients by hand, maps of every epoch, which resumed runs keep; and whether gates
open on the tumour."""

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from multitask_images import HEALTHY, batch_of
from small_training import same

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import AttentionUNet, MultiTaskUNet
from utils.evaluation.saliency import gate_overlap, inside_and_outside
from utils.recipes import get_recipe
from utils.training.callbacks import KEPT, GateWatch, GradientWatch, gate_statistics
from utils.training.loop import fit
from utils.training.resume import TrainingPaused
from utils.training.tasks import MultiTask, Segmentation


def test_the_watch_measures_the_gradient_of_each_loss_and_changes_nothing():
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4).eval(), MultiTask(4, HEALTHY), batch_of([0, 1, 2])
    before = {name: value.clone() for name, value in (net.state_dict() | task.state_dict()).items()}
    found = GradientWatch(task, batch)(net, 1)
    assert set(found) == {f"{a}_{b}" for a in ("gradient", "weight") for b in ("reconstruction", "classification")}
    assert found["weight_reconstruction"] == pytest.approx(2500) and found["weight_classification"] == 1
    assert same(before, net.state_dict() | task.state_dict()) and all(p.grad is None for p in net.parameters())
    task.parts(net(task.inputs(batch)), task.targets(batch))["reconstruction"].backward()
    norm = torch.cat([p.grad.flatten() for p in net.encoder.parameters() if p.grad is not None]).norm()
    assert found["gradient_reconstruction"] == pytest.approx(norm.item(), rel=1e-4)


def test_statistics_of_gates_by_hand():
    half = torch.zeros(2, 1, 4, 4)
    half[:, :, :2] = 1
    assert gate_statistics(half) == {"mean": 0.5, "spread": 0.5, "saturated": 1.0}
    assert gate_statistics(torch.full((2, 1, 4, 4), 0.5)) == {"mean": 0.5, "spread": 0.0, "saturated": 0.0}
    between = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])  # differs between images, not within
    assert gate_statistics(between)["spread"] == 0


@pytest.fixture
def watched(roots):
    """Task, data and recipe of three epochs of an AttentionUNet on the small phantom."""
    parts = make_split("phantom", "patient")
    settings = {"image_size": 32, "channels": "all", "masks": True}
    train, val = (ImageDataset("phantom", rows, **settings) for rows in (parts.train[:16], parts.val[:8]))
    recipe = get_recipe("ours", "AttentionUNet", epochs=3, batch_size=8)
    return Segmentation(3, recipe.loss, recipe.augmentation), train, val, recipe


def train(watched, folder, **changes):
    task, data, val, recipe = watched
    set_seed(0)
    net = AttentionUNet(n_filters=4, normalised=True)
    watch = GateWatch(task.inputs(val.batch(range(len(val)))), folder / "gates")
    return net, watch, fit(net, task, data, val, recipe, folder=folder, callback=watch, **changes)


def test_every_epoch_leaves_statistics_and_maps_stopped_or_not(watched, tmp_path):
    whole, watch, trained = train(watched, tmp_path / "whole")
    for gate, side in enumerate((4, 8, 16, 32), start=1):
        assert trained.history[f"gate{gate}_spread"].between(0.01, 0.5).all()
        assert all(epoch[f"gate{gate}"].shape == (KEPT, side, side) for epoch in watch.maps())
    for _ in range(2):
        with pytest.raises(TrainingPaused):
            train(watched, tmp_path / "parts", time_budget=0)
    parts, watch_again, again = train(watched, tmp_path / "parts")
    assert same(whole.state_dict(), parts.state_dict())
    assert again.history.drop(columns="seconds").equals(trained.history.drop(columns="seconds"))
    assert len(watch.maps()) == len(watch_again.maps()) == 3
    for one, other in zip(watch.maps(), watch_again.maps(), strict=True):
        assert all(np.array_equal(one[gate], other[gate]) for gate in one)


@pytest.mark.parametrize("normalised", [False, True])
def test_normalised_scores_cannot_be_stuck(normalised):
    torch.manual_seed(0)
    net = AttentionUNet(n_filters=4, normalised=normalised).eval()
    for gate in net.gates:
        torch.nn.init.constant_(gate.score[1].bias, 20)  # what training drove S2's deep gates to
    maps = net(torch.rand(2, 4, 64, 64), return_attention=True)[1]
    assert all((gate_statistics(m)["saturated"] == 1) != normalised for m in maps)


def test_inside_and_outside_by_hand():
    tumour = torch.zeros(2, 4, 4, dtype=torch.bool)
    tumour[0, :2, :3] = True  # covers the upper left pixel of a 2×2 map whole, half of the one beside it
    gate = torch.tensor([[[[0.9, 0.6], [0.3, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    inside, outside = inside_and_outside(gate, tumour)
    assert inside[0].item() == pytest.approx((0.9 + 0.5 * 0.6) / 1.5)
    assert outside[0].item() == pytest.approx((0.5 * 0.6 + 0.3 + 0.0) / 2.5)
    assert inside[1].isnan() and outside[1] == 1, "no tumour has no inside"


def test_a_set_without_a_tumour_has_no_overlap(roots):
    split = make_split("phantom", "patient")
    settings = {"image_size": 32, "channels": "all", "masks": True}
    masks = ImageDataset("phantom", split.train[:40], **settings).batch(range(40))["mask"].bool().flatten(1)
    healthy = split.train[:40][~masks.any(1).numpy()]
    data, net = ImageDataset("phantom", healthy, **settings), AttentionUNet(n_filters=4)
    assert len(healthy) and gate_overlap(net, Segmentation(3), data, healthy) == {}


def test_the_overlap_is_that_of_the_gates_of_a_network_and_leaves_no_hook(watched):
    task, data, *_ = watched
    torch.manual_seed(0)
    net = AttentionUNet(n_filters=4, normalised=True).eval()
    found = gate_overlap(net, task, data, np.arange(len(data)))
    batch = data.batch(range(len(data)))
    maps = net(task.inputs(batch), return_attention=True)[1]
    for name, gate in zip(("gate1", "gate2", "gate3", "gate4"), maps, strict=True):
        inside, outside = inside_and_outside(gate, batch["mask"].bool().any(1))
        assert found[name]["difference"]["value"] == pytest.approx((inside - outside).nanmean().item(), abs=1e-4)
        assert found[name]["difference"]["low"] < found[name]["difference"]["high"]
    assert not any(gate._forward_hooks for gate in net.gates)
