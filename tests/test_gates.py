"""The gates are watched while they learn: statistics by hand, maps of every epoch, resumed runs keep them all."""

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import AttentionUNet
from utils.recipes import get_recipe
from utils.training.callbacks import KEPT, GateWatch, gate_statistics
from utils.training.checkpoint import TrainingPaused
from utils.training.loop import fit
from utils.training.tasks import Segmentation


def test_statistics_by_hand():
    half = torch.zeros(2, 1, 4, 4)
    half[:, :, :2] = 1
    assert gate_statistics(half) == {"mean": 0.5, "spread": 0.5, "saturated": 1.0}
    assert gate_statistics(torch.full((2, 1, 4, 4), 0.5)) == {"mean": 0.5, "spread": 0.0, "saturated": 0.0}
    between = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])  # differs between images, not within
    assert gate_statistics(between)["spread"] == 0


@pytest.fixture
def watched(roots):
    """An untrained AttentionUNet, its task, data and recipe of three epochs on the small phantom."""
    parts = make_split("phantom", "patient")
    how = {"image_size": 32, "channels": "all", "masks": True}
    train, val = (ImageDataset("phantom", rows, **how) for rows in (parts.train[:16], parts.val[:8]))
    recipe = get_recipe("ours", "AttentionUNet", epochs=3, batch_size=8)
    return Segmentation(3, recipe.loss, recipe.augmentation), train, val, recipe


def train(watched, folder, **changes):
    task, data, val, recipe = watched
    set_seed(0)
    net = AttentionUNet(n_filters=4, normalised=True)
    watch = GateWatch(task.inputs(val.batch(range(len(val)))), folder / "gates")
    return net, watch, fit(net, task, data, val, recipe, folder=folder, callback=watch, **changes)


def test_every_epoch_leaves_statistics_and_maps(watched, tmp_path):
    _, watch, trained = train(watched, tmp_path / "a")
    for gate, side in enumerate((4, 8, 16, 32), start=1):
        assert trained.history[f"gate{gate}_spread"].between(0.01, 0.5).all()
        assert all(epoch[f"gate{gate}"].shape == (KEPT, side, side) for epoch in watch.maps())
    assert len(watch.maps()) == 3


def test_a_run_that_was_stopped_ends_with_the_same_weights_and_maps(watched, tmp_path):
    whole, watch, history = train(watched, tmp_path / "whole")
    with pytest.raises(TrainingPaused):
        train(watched, tmp_path / "parts", time_budget=0)
    with pytest.raises(TrainingPaused):
        train(watched, tmp_path / "parts", time_budget=0)
    parts, watch_again, again = train(watched, tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    assert again.history.drop(columns="seconds").equals(history.history.drop(columns="seconds"))
    for one, other in zip(watch.maps(), watch_again.maps(), strict=True):
        assert all(np.array_equal(one[gate], other[gate]) for gate in one)


def test_normalised_scores_cannot_be_stuck():
    torch.manual_seed(0)
    x = torch.rand(2, 4, 64, 64)
    for normalised, stuck in ((False, True), (True, False)):
        net = AttentionUNet(n_filters=4, normalised=normalised).eval()
        for gate in net.gates:
            torch.nn.init.constant_(gate.score[1].bias, 20)  # what training drove S2's deep gates to
        maps = net(x, return_attention=True)[1]
        assert all((gate_statistics(m)["saturated"] == 1) == stuck for m in maps)
