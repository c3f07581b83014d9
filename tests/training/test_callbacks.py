"""Callbacks: the gradients of a task's losses are measured, and nothing changes."""

import pytest
import torch
from multitask_images import HEALTHY, batch_of
from small_training import same

from models import MultiTaskUNet
from utils.training.callbacks import GradientWatch
from utils.training.tasks import MultiTask


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
