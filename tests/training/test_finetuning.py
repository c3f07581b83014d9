"""Frozen layers stay the same to the bit; stages start from the weights kept before; early stopping."""

from dataclasses import replace

import pytest
import torch
from small_transfer import run_fit

from datasets.catalog import DataError
from models import CustomCNN, build_backbone
from utils.recipes import get_recipe
from utils.training.loop import fit
from utils.training.optimisation import freeze, layers, parameter_groups, unfrozen_count, unfrozen_layers
from utils.training.resume import TrainingPaused
from utils.training.tasks import Classification


def changed(net, before):
    return {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}


@pytest.mark.parametrize(
    ("unfreeze", "count"), [("all", 62), ("none", 0), (10, 10), (100, 62), (0.3, 19), (1.0, 62), (1e-9, 1)]
)
def test_policies_count_layers_from_the_end(unfreeze, count):
    assert unfrozen_count(unfreeze, 62) == count


@pytest.mark.parametrize("unfreeze", ["some", 0, -1, 0.0, 1.5, True, None])
def test_other_values_are_refused_with_the_policies_there_are(unfreeze):
    with pytest.raises(DataError, match="'all', 'none', a number of layers or a fraction"):
        unfrozen_count(unfreeze, 62)


def test_only_networks_with_a_backbone_are_frozen_in_part(roots):
    with pytest.raises(DataError, match="only a network with a backbone"):
        freeze(CustomCNN(image_size=64), get_recipe("s2", "CustomCNN", unfreeze=3))


@pytest.mark.parametrize("unfreeze", ["none", 10, 0.3, "all"])
def test_after_training_frozen_weights_and_statistics_are_the_same_bits(parts, tmp_path, unfreeze):
    net, before, _ = run_fit(parts, tmp_path, unfreeze=unfreeze)
    every = layers(net.backbone)
    frozen = every[: len(every) - unfrozen_count(unfreeze, len(every))]
    assert [all(p.requires_grad for p in m.parameters(recurse=False)) for m in every] == [
        m not in frozen for m in every
    ]
    names = {id(module): name for name, module in net.named_modules()}
    own = {f"{names[id(m)]}.{key}" for m in frozen for key in m.state_dict()}
    moved = changed(net, before)
    assert not moved & own, "a frozen layer, or its running statistics, has moved"
    assert any(key.startswith("head.") for key in moved)
    assert any(key.startswith("backbone.") for key in moved) == (unfreeze != "none")
    assert any("running_mean" in key and key.startswith("backbone.") for key in moved) == (unfreeze != "none")


def test_a_recipe_may_keep_all_statistics_while_weights_train(parts, tmp_path):
    net, before, _ = run_fit(parts, tmp_path, freeze_bn=True)
    moved = {key for key in changed(net, before) if key.startswith("backbone.")}
    assert moved and not [key for key in moved if "running" in key or "num_batches" in key]
    assert any(key.startswith("head.") and "running" in key for key in changed(net, before)), "the head's are learned"


def test_s3_trains_in_three_stages_each_from_the_weights_kept_before(parts, tmp_path):
    seen = {}
    with pytest.raises(TrainingPaused):
        run_fit_s3(parts, tmp_path / "paused", time_budget=0)
    for folder in ("straight", "paused"):
        net, fitted = run_fit_s3(parts, tmp_path / folder)
        seen[folder] = net.state_dict()
    assert fitted.history.stage.tolist() == ["head", "top", "all"] and fitted.history.epoch.tolist() == [1, 2, 3]
    assert fitted.history.lr.tolist() == [1e-3, 1e-4, 5e-5] and fitted.epoch == 3
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in seen.values()), strict=True))


def run_fit_s3(parts, folder, **options):
    recipe = get_recipe("s3", "SqueezeNet", epochs=3)
    torch.manual_seed(0)
    net = build_backbone("SqueezeNet", image_size=64, **recipe.model_args)
    return net, fit(net, Classification(4), *parts, recipe, folder=folder, **options)


def test_the_summary_counts_unfrozen_layers():
    net = build_backbone("EfficientNetV2-S", head="dual", image_size=64)
    table = unfrozen_layers(net, get_recipe("s3", "EfficientNetV2-S"))
    every = sum(p.numel() for p in net.parameters())
    assert table["unfrozen parameters"].iloc[0] == 1_450_244 and table["unfrozen parameters"].iloc[2] == every
    assert 1_450_244 < table["unfrozen parameters"].iloc[1] < every
    assert table.stage.tolist() == ["head", "top", "all"] and set(table["batch-norm statistics"]) == {"kept"}


def test_early_stopping_stops_and_stays_stopped(parts, tmp_path):
    changes = {"optimizer": "SGD", "lr": 1e-20, "epochs": 9, "patience": 2, "select": "best"}
    _, _, fitted = run_fit(parts, tmp_path, "SqueezeNet", **changes)
    assert len(fitted.history) == 3 and fitted.epoch == 1
    _, _, again = run_fit(parts, tmp_path, "SqueezeNet", **changes)
    assert again.history.equals(fitted.history)


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


def test_a_recipe_with_other_layers_does_not_take_up_a_checkpoint(parts, tmp_path):
    run_fit(parts, tmp_path, "SqueezeNet", unfreeze="none")
    with pytest.raises(DataError, match="unfreeze: none → all"):
        run_fit(parts, tmp_path, "SqueezeNet")


def test_fit_alone_takes_a_stage(parts, tmp_path):
    stage = replace(get_recipe("s3", "SqueezeNet", epochs=3).in_stages()[0], batch_size=16)
    net = build_backbone("SqueezeNet", image_size=64, **stage.model_args)
    fit(net, Classification(4), *parts, stage, folder=tmp_path)
    assert (tmp_path / "checkpoint-head.pt").is_file()
