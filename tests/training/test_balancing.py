"""Balances of several losses, the gradients that they weigh, and balanced sampling."""

import numpy as np
import pytest
import torch
from multitask_images import HEALTHY, batch_of

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import MultiTaskUNet
from utils.recipes import get_recipe
from utils.training.callbacks import GradientWatch
from utils.training.data import BalancedSampler, make_loader
from utils.training.losses import RunningAverage, Uncertainty
from utils.training.optimisation import make_optimizer
from utils.training.tasks import MultiTask


def test_running_averages_against_a_sequence_by_hand():
    balance, averages = RunningAverage(["reconstruction", "classification"]), np.array([4e-4, 1.0])
    for losses in ([0.03, 1.9], [0.02, 1.2], [0.001, 0.4]):
        averages = 0.99 * averages + 0.01 * np.array(losses)
        given = dict(zip(balance.names, torch.tensor(losses, requires_grad=True).unbind(), strict=True))
        total = balance(given)
        assert total.item() == pytest.approx((losses / averages).sum(), rel=1e-5)
        slopes = torch.autograd.grad(total, list(given.values()))
        assert [s.item() for s in slopes] == pytest.approx(1 / averages, rel=1e-5), "the averages are constants"
    kept = balance.state_dict()["averages"].clone()
    balance.eval()(dict.fromkeys(balance.names, torch.tensor(5.0)))
    assert torch.equal(balance.averages, kept), "validation leaves no trace"


def test_a_running_average_of_nothing_does_not_divide_by_zero():
    balance = RunningAverage(["reconstruction"], decay=0.0)
    assert balance({"reconstruction": torch.tensor(0.0)}).item() == 0.0
    assert balance.weights()["reconstruction"].item() == pytest.approx(1e12)


def test_learned_weights_follow_the_formula_and_find_the_loss():
    balance = Uncertainty(["reconstruction", "classification"])
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([-2.0, 0.5]))
    total = balance({"reconstruction": torch.tensor(0.1), "classification": torch.tensor(0.7)})
    by_hand = 0.5 * np.exp(2.0) * 0.1 - 1.0 + np.exp(-0.5) * 0.7 + 0.25
    assert total.item() == pytest.approx(by_hand, rel=1e-5)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        loss = balance({"reconstruction": torch.tensor(0.1), "classification": torch.tensor(0.7)})
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    # where the slope is 0: σ² is the squared error, and twice the cross-entropy
    assert balance.log_variances.exp().tolist() == pytest.approx([0.1, 1.4], rel=0.02)


def test_learned_weights_are_trained_at_their_own_rate_and_not_decayed():
    recipe, task = get_recipe("s0-kendall", "MultiTaskUNet"), MultiTask(4, HEALTHY, "kendall")
    own = make_optimizer(recipe, MultiTaskUNet(width=1).parameters(), task.parameters()).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in own] == [(3e-4, 1e-2), (1e-2, 0.0)]
    assert own[1]["params"] == [task.balance.log_variances]
    alone = make_optimizer(get_recipe("s0", "MultiTaskUNet"), MultiTaskUNet(width=1).parameters(), [])
    assert len(alone.param_groups) == 1


def test_the_watch_measures_the_gradient_of_each_loss_and_changes_nothing():
    torch.manual_seed(0)
    net, task, batch = MultiTaskUNet(width=4).eval(), MultiTask(4, HEALTHY), batch_of([0, 1, 2])
    before = {name: value.clone() for name, value in (net.state_dict() | task.state_dict()).items()}
    found = GradientWatch(task, batch)(net, 1)
    assert set(found) == {f"{a}_{b}" for a in ("gradient", "weight") for b in ("reconstruction", "classification")}
    assert found["weight_reconstruction"] == pytest.approx(2500) and found["weight_classification"] == 1
    assert all(torch.equal(value, before[name]) for name, value in (net.state_dict() | task.state_dict()).items())
    assert all(p.grad is None for p in net.parameters())
    task.parts(net(task.inputs(batch)), task.targets(batch))["reconstruction"].backward()
    norm = torch.cat([p.grad.flatten() for p in net.encoder.parameters() if p.grad is not None]).norm()
    assert found["gradient_reconstruction"] == pytest.approx(norm.item(), rel=1e-4)


def test_every_class_is_drawn_equally_often_and_an_epoch_draws_the_same_again():
    labels = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)
    sampler = BalancedSampler(labels, seed=1)
    sampler.set_epoch(3)
    drawn = list(sampler)
    shares = np.bincount(labels[drawn], minlength=4) / len(drawn)
    assert len(drawn) == 1000 and shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.05)
    other = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == drawn != other
    again = BalancedSampler(labels, seed=2)
    again.set_epoch(3)
    assert list(again) != drawn


def test_only_training_is_balanced(roots):
    data = ImageDataset("phantom", make_split("phantom").val, image_size=32)
    assert isinstance(make_loader(data, 8, training=True, sampling="balanced").sampler, BalancedSampler)
    assert [r for b in make_loader(data, 8, sampling="balanced") for r in b["row"].tolist()] == data.rows.tolist()
