"""S2's recipes: the values of the report, the schedule by hand, changes by name."""

import pytest
import torch

from datasets.catalog import UnknownName
from models import MODELS
from utils.recipes import get_recipe

S2 = {  # epochs, weight decay, schedule, augmentation, published accuracy
    "CustomCNN": (40, 1e-5, "StepLR", "s2", 0.9870),
    "AlexNet": (50, 1e-5, "StepLR", "none", 0.8986),
    "VGG16": (50, 0.0, None, "none", 0.9535),
    "ViT": (50, 1e-5, "StepLR", "s2", 0.8810),
}


@pytest.mark.parametrize("name", MODELS)
def test_s2_values(name):
    r = get_recipe("s2", name)
    assert (r.epochs, r.weight_decay, r.schedule, r.augmentation, r.published["accuracy"]) == S2[name]
    assert (r.optimizer, r.lr, r.batch_size, r.select) == ("Adam", 1e-4, 64, "last")


@pytest.mark.parametrize(("name", "rates"), [("CustomCNN", [1e-4, 1e-4, 5e-5, 2.5e-5]), ("VGG16", [1e-4] * 4)])
def test_rate_after_0_9_10_and_20_epochs(name, rates):
    recipe = get_recipe("s2", name)
    optimizer = recipe.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = recipe.make_scheduler(optimizer)
    seen = []
    for _ in range(21):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler:
            scheduler.step()
    assert [seen[i] for i in (0, 9, 10, 20)] == pytest.approx(rates)


@pytest.mark.parametrize(("name", "dice"), [("ClassicUNet", 0.861), ("ImprovedUNet", 0.917), ("AttentionUNet", 0.918)])
def test_s2_values_of_segmentation(name, dice):
    r = get_recipe("s2", name)
    assert (r.optimizer, r.lr, r.weight_decay, r.batch_size, r.epochs) == ("Adam", 2e-3, 1e-2, 32, 20)
    assert (r.schedule, r.schedule_args, r.loss, r.augmentation) == ("ExponentialLR", {"gamma": 0.9}, "bce", "none")
    assert r.model_args == {"n_filters": 32} and r.published["dice"] == dice


def test_ours_changes_what_it_says_and_claims_nothing_published():
    ours, s2 = get_recipe("ours", "AttentionUNet"), get_recipe("s2", "AttentionUNet")
    changed = {k for k in vars(s2) if getattr(ours, k) != getattr(s2, k)}
    assert changed == {"name", "source", "loss", "optimizer", "augmentation", "model_args", "published", "published_on"}
    assert ours.model_args["normalised"] and not get_recipe("s2-dice-adamw", "AttentionUNet").model_args.get(
        "normalised"
    )
    assert not ours.published


def test_changes_apply_and_misspelt_ones_are_named():
    assert get_recipe("s2", "ViT", epochs=3).epochs == 3
    for words in (("s2x", "ViT"), ("s2", "VIT16")):
        with pytest.raises(UnknownName, match="did you mean"):
            get_recipe(*words)
    with pytest.raises(UnknownName, match="did you mean 'epochs'"):
        get_recipe("s2", "ViT", epoch=3)
