"""Frozen layers stay the same to the bit; stages start from the weights kept before; rates are those of the sources."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from small_training import HEALTHY, fine_tune
from torch import nn

from datasets.catalog import DataError
from models import CustomCNN, MultiTaskUNet, build_backbone
from utils.recipes import get_recipe
from utils.training.loop import fit
from utils.training.optimisation import (
    freeze,
    layers,
    make_optimizer,
    make_scheduler,
    parameter_groups,
    unfrozen_count,
    unfrozen_layers,
)
from utils.training.resume import TrainingPaused
from utils.training.tasks import Classification, MultiTask


@pytest.mark.parametrize(
    ("unfreeze", "count"), [("all", 62), ("none", 0), (10, 10), (100, 62), (0.3, 19), (1.0, 62), (1e-9, 1)]
)
def test_policies_count_layers_from_the_end(unfreeze, count):
    assert unfrozen_count(unfreeze, 62) == count


@pytest.mark.parametrize("unfreeze", ["some", 0, -1, 0.0, 1.5, True, None])
def test_other_values_are_refused_with_the_policies_there_are(unfreeze):
    with pytest.raises(DataError, match="'all', 'none', a number of layers or a fraction"):
        unfrozen_count(unfreeze, 62)
    with pytest.raises(DataError, match="only a network with a backbone"):
        freeze(CustomCNN(image_size=64), get_recipe("s2", "CustomCNN", unfreeze=unfreeze))


@pytest.mark.parametrize(("unfreeze", "freeze_bn"), [("none", False), (10, False), ("all", True)])
def test_after_training_frozen_weights_and_statistics_are_the_same_bits(parts, tmp_path, unfreeze, freeze_bn):
    net, before, _ = fine_tune(parts, tmp_path, unfreeze=unfreeze, freeze_bn=freeze_bn)
    every = layers(net.backbone)
    frozen = every[: len(every) - unfrozen_count(unfreeze, len(every))]
    trained = [all(p.requires_grad for p in m.parameters(recurse=False)) for m in every]
    assert trained == [m not in frozen for m in every]
    names = {id(module): name for name, module in net.named_modules()}
    own = {f"{names[id(m)]}.{key}" for m in frozen for key in m.state_dict()}
    moved = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert not moved & own, "a frozen layer, or its running statistics, has moved"
    head, backbone = ([key for key in moved if key.startswith(part)] for part in ("head.", "backbone."))
    assert any("running_mean" in key for key in head), "the head's statistics are learned"
    assert bool(backbone) == (unfreeze != "none")
    assert any("running_mean" in key for key in backbone) == (unfreeze != "none" and not freeze_bn)


def test_s3_trains_in_three_stages_each_from_the_weights_kept_before(parts, tmp_path):
    recipe, seen = get_recipe("s3", "SqueezeNet", epochs=3), []

    def train(folder, **options):
        torch.manual_seed(0)
        net = build_backbone("SqueezeNet", image_size=64, **recipe.model_args)
        return net, fit(net, Classification(4), *parts, recipe, folder=tmp_path / folder, **options)

    for stage in ("head", "top"):  # paused after either: the next start passes over what is done
        with pytest.raises(TrainingPaused, match=f"after {stage} epoch 1/1"):
            train("paused", time_budget=0)
    for folder in ("straight", "paused"):
        net, fitted = train(folder)
        seen.append(net.state_dict())
        assert fitted.history.stage.tolist() == ["head", "top", "all"] and fitted.history.epoch.tolist() == [1, 2, 3]
        assert fitted.history.lr.tolist() == [1e-3, 1e-4, 5e-5] and fitted.epoch == 3
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in seen), strict=True))


def test_the_summary_counts_unfrozen_layers():
    net = build_backbone("EfficientNetV2-S", head="dual", image_size=64)
    table = unfrozen_layers(net, get_recipe("s3", "EfficientNetV2-S"))
    head, top, every = table["unfrozen parameters"]
    assert head == 1_450_244 < top < every == sum(p.numel() for p in net.parameters())
    assert table.stage.tolist() == ["head", "top", "all"] and set(table["batch-norm statistics"]) == {"kept"}


@pytest.mark.parametrize(
    ("epochs", "stages", "trained"),
    [
        (9, (), ["", "", ""]),
        (4, ({"stage": "one", "epochs": 2}, {"stage": "two", "epochs": 2}), ["one", "one", "two", "two"]),
    ],
)
def test_early_stopping_counts_the_epochs_of_a_stage_and_stays_stopped(parts, tmp_path, epochs, stages, trained):
    changes = {"optimizer": "SGD", "lr": 1e-20, "epochs": epochs, "patience": 2, "select": "best", "stages": stages}
    first, again = (fine_tune(parts, tmp_path, "SqueezeNet", **changes)[2] for _ in range(2))
    assert first.history.get("stage", pd.Series([""] * len(first.history))).tolist() == trained
    assert again.history.equals(first.history) and again.epoch == first.epoch


def test_the_head_has_its_own_decay_and_the_backbone_its_share_of_the_rate():
    net = build_backbone("SqueezeNet", head="dual", image_size=64)
    head, hidden, backbone = parameter_groups(net, get_recipe("s3", "SqueezeNet", backbone_lr_mult=0.5))
    assert [p.shape for p in hidden["params"]] == [(512, 1024), (256, 512)] and hidden["weight_decay"] == 2e-4
    assert backbone["lr"] == 5e-4 and len(backbone["params"]) == 50
    assert len(head["params"]) + len(hidden["params"]) == len(list(net.head.parameters()))
    weight = hidden["params"][0]
    (1e-4 * weight.square().sum()).backward()  # Keras's L2
    assert torch.allclose(weight.grad, hidden["weight_decay"] * weight)
    freeze(net, get_recipe("s3", "SqueezeNet", unfreeze="none"))
    assert len(parameter_groups(net, get_recipe("s3", "SqueezeNet"))) == 2, "a frozen backbone has no group"


def test_learned_weights_are_trained_at_their_own_rate_and_not_decayed():
    recipe, task = get_recipe("s0-kendall", "MultiTaskUNet"), MultiTask(4, HEALTHY, "kendall")
    own = make_optimizer(recipe, parameter_groups(MultiTaskUNet(width=1), recipe), task.parameters()).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in own] == [(3e-4, 1e-2), (1e-2, 0.0)]
    assert own[1]["params"] == [task.balance.log_variances]


def rates(recipe, steps, groups=None, schedule=make_scheduler):
    """The rate of each parameter group before each step."""
    optimizer = make_optimizer(recipe, groups or [{"params": [nn.Parameter(torch.zeros(1))]}])
    scheduler, seen = schedule(recipe, optimizer), []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step(), scheduler.step()
    return np.array(seen)


@pytest.mark.parametrize(
    ("name", "model", "epochs", "wanted"),
    [
        ("s2", "CustomCNN", 40, {0: 1e-4, 9: 1e-4, 10: 5e-5, 20: 2.5e-5}),
        *[("s0", "MultiTaskUNet", n, {0: 3e-4, n // 2: 1.5e-4, n: 0.0}) for n in (100, 8)],  # over all, whatever n
    ],
)
def test_rates_after_some_epochs(name, model, epochs, wanted):
    seen = rates(get_recipe(name, model, epochs=epochs), epochs + 1)[:, 0]
    assert {epoch: seen[epoch] for epoch in wanted} == pytest.approx(wanted, abs=1e-12)
    assert make_scheduler(get_recipe("s2", "VGG16"), None) is None, "one rate for all epochs"


def test_s3_rate_rises_and_falls_as_worked_out_by_hand_and_a_slower_backbone_keeps_its_share():
    """Of torch's own schedules all groups would have one floor."""
    recipe = get_recipe("s3", "EfficientNetV2-S").in_stages()[0]
    two = [{"params": [nn.Parameter(torch.zeros(1))], "lr": recipe.lr * share} for share in (1.0, 0.3)]
    seen, slower = rates(recipe, 25, two).T
    assert slower / seen == pytest.approx([0.3] * 25)
    assert seen[:4] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])
    assert seen[14] == pytest.approx((1e-3 + 1e-7) / 2)  # half of the 22 epochs that fall
    assert seen[24] == pytest.approx(1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * 21 / 22)) / 2)


def test_s4_rate_falls_by_a_tenth_in_ten_thousand_batches(parts, tmp_path):
    recipe = get_recipe("s4", "ConvNeXt-S")
    assert recipe.schedule_step == "batch" and rates(recipe, 10_001)[-1] == pytest.approx(0.9e-4)
    changes = {"schedule": "ExponentialLR", "schedule_args": {"gamma": 0.5}, "schedule_step": "batch", "lr": 1e-4}
    _, _, fitted = fine_tune(parts, tmp_path, "SqueezeNet", epochs=2, **changes)
    assert fitted.history.lr.tolist() == [1e-4, 0.25e-4], "32 images are two batches"


def test_s1_rate_falls_once_validation_stands_still(parts, tmp_path):
    recipe = get_recipe("s1", "SqueezeNet")
    assert (recipe.schedule, recipe.unfreeze) == ("ReduceLROnPlateau", 10)
    # slow enough to gain less than torch's threshold, not so slow that torch leaves the rate alone
    still = {"optimizer": "SGD", "lr": 1e-7, "epochs": 4, "schedule_args": {"factor": 0.1, "patience": 1}}
    _, _, fitted = fine_tune(parts, tmp_path, "SqueezeNet", "s1", **still)
    assert fitted.history.lr.tolist() == pytest.approx([1e-7, 1e-7, 1e-7, 1e-8], rel=1e-9, abs=0)


def test_one_cycle_moves_with_every_batch_and_keeps_the_backbone_slower():
    recipe = get_recipe("onecycle", "SqueezeNet", epochs=2)
    net = build_backbone("SqueezeNet", image_size=64, **recipe.model_args)
    groups = parameter_groups(net, recipe)
    seen = rates(recipe, 20, groups, lambda recipe, optimizer: make_scheduler(recipe, optimizer, batches=10))
    head, backbone = seen.T[[0, -1]]
    assert head.max() == pytest.approx(5e-4) and head[-1] < 1e-5 and head.argmax() in (3, 4)
    assert backbone == pytest.approx(head / 5)
