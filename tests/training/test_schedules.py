"""Learning rates of S1, S3 and S4, and why the warm-up cosine is written by hand."""

import math

import numpy as np
import pytest
import torch
from small_transfer import run_fit
from torch import nn
from torch.optim import lr_scheduler

from models import build_backbone
from utils.recipes import get_recipe
from utils.training.optimisation import freeze, make_optimizer, make_scheduler, parameter_groups


def rates(recipe, steps):
    optimizer = make_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    scheduler, seen = make_scheduler(recipe, optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_s3_rate_rises_and_falls_as_worked_out_by_hand():
    seen = rates(get_recipe("s3", "EfficientNetV2-S").in_stages()[0], 25)
    assert seen[:4] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])
    assert seen[14] == pytest.approx((1e-3 + 1e-7) / 2)  # half of the 22 epochs that fall
    assert seen[24] == pytest.approx(1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * 21 / 22)) / 2)


def test_torchs_own_warmup_and_cosine_agree_for_one_rate_and_lose_the_share_of_a_slower_backbone():
    """Why `warmup_cosine` is written by hand: `CosineAnnealingLR` has one floor for all groups."""
    recipe = get_recipe("ours", "SqueezeNet", epochs=9, warmup=3, schedule_args={"floor": 1e-4})
    seen = {"ours": [], "torch": []}
    for name, rows in seen.items():
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": recipe.lr * share} for share in (1.0, 0.3)]
        optimizer = make_optimizer(recipe, groups)
        if name == "ours":
            scheduler = make_scheduler(recipe, optimizer)
        else:
            rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / 3, total_iters=2)
            fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=6, eta_min=1e-4)
            scheduler = lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[3])
        for _ in range(recipe.epochs):
            rows.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step(), scheduler.step()
    ours, theirs = (np.array(rows) for rows in seen.values())
    assert ours[:, 0] == pytest.approx(theirs[:, 0]), "for a single rate both are the same schedule"
    assert (ours[:, 1] / ours[:, 0]).tolist() == pytest.approx([0.3] * 9), "ours keeps the backbone's share"
    assert theirs[-1, 1] / theirs[-1, 0] > 0.45, "torch's does not"


def test_s4_rate_falls_by_a_tenth_in_ten_thousand_batches(parts, tmp_path):
    recipe = get_recipe("s4", "ConvNeXt-S")
    assert recipe.schedule_step == "batch" and rates(recipe, 10_001)[-1] == pytest.approx(0.9e-4)
    changes = {"schedule": "ExponentialLR", "schedule_args": {"gamma": 0.5}, "schedule_step": "batch", "lr": 1e-4}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", epochs=2, **changes)
    assert fitted.history.lr.tolist() == [1e-4, 0.25e-4], "32 images are two batches"


def test_s1_rate_falls_once_validation_stands_still(parts, tmp_path):
    recipe = get_recipe("s1", "SqueezeNet")
    assert (recipe.schedule, recipe.unfreeze) == ("ReduceLROnPlateau", 10)
    # slow enough to gain less than torch's threshold, not so slow that torch leaves the rate alone
    still = {"optimizer": "SGD", "lr": 1e-7, "epochs": 4, "schedule_args": {"factor": 0.1, "patience": 1}}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", "s1", **still)
    assert fitted.history.lr.tolist() == pytest.approx([1e-7, 1e-7, 1e-7, 1e-8], rel=1e-9, abs=0)


def test_one_cycle_moves_with_every_batch_and_keeps_the_backbone_slower():
    recipe = get_recipe("onecycle", "SqueezeNet", epochs=2)
    net = build_backbone("SqueezeNet", image_size=64, **recipe.model_args)
    freeze(net, recipe)
    optimizer = make_optimizer(recipe, parameter_groups(net, recipe))
    scheduler = make_scheduler(recipe, optimizer, batches=10)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    head, backbone = np.array(rates).T[[0, -1]]
    assert head.max() == pytest.approx(5e-4) and head[-1] < 1e-5 and head.argmax() in (3, 4)
    assert backbone == pytest.approx(head / 5)
