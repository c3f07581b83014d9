"""S2's recipes: the values of the report, the schedule by hand, changes by name."""

import numpy as np
import pytest
import torch

from datasets.catalog import CLASSES, DataError, UnknownName
from models import MODELS
from utils.recipes import get_recipe
from utils.recipes.published import published
from utils.recipes.s0 import ABLATION
from utils.training.optimisation import make_optimizer, make_scheduler

S2 = {  # epochs, weight decay, schedule, augmentation, published accuracy
    "CustomCNN": (40, 1e-5, "StepLR", "s2", 0.9870),
    "AlexNet": (50, 1e-5, "StepLR", "none", 0.8986),
    "VGG16": (50, 0.0, None, "none", 0.9535),
    "ViT": (50, 1e-5, "StepLR", "s2", 0.8810),
}


@pytest.mark.parametrize("name", MODELS)
def test_s2_values(name):
    r = get_recipe("s2", name)
    reported = published("s2", name, "brain-tumor-mri", "published")
    assert (r.epochs, r.weight_decay, r.schedule, r.augmentation, reported["accuracy"]) == S2[name]
    assert (r.optimizer, r.lr, r.batch_size, r.select) == ("Adam", 1e-4, 64, "last")


@pytest.mark.parametrize(("name", "rates"), [("CustomCNN", [1e-4, 1e-4, 5e-5, 2.5e-5]), ("VGG16", [1e-4] * 4)])
def test_rate_after_0_9_10_and_20_epochs(name, rates):
    recipe = get_recipe("s2", name)
    optimizer = make_optimizer(recipe, [torch.nn.Parameter(torch.zeros(1))])
    scheduler = make_scheduler(recipe, optimizer)
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
    assert r.model_args == {"n_filters": 32} and published("s2", name, "brats2020", "slices")["dice"] == dice


def test_ours_changes_what_it_says_and_claims_nothing_published():
    ours, s2 = get_recipe("ours", "AttentionUNet"), get_recipe("s2", "AttentionUNet")
    changed = {k for k in vars(s2) if getattr(ours, k) != getattr(s2, k)}
    assert changed == {"name", "source", "loss", "optimizer", "augmentation", "model_args"}
    assert ours.model_args["normalised"] and not get_recipe("s2-dice-adamw", "AttentionUNet").model_args.get(
        "normalised"
    )
    assert published("ours", "AttentionUNet", "brats2020", "slices") is None


def test_changes_apply_and_misspelt_ones_are_named():
    assert get_recipe("s2", "ViT", epochs=3).epochs == 3
    for names in (("s2x", "ViT"), ("s2", "VIT16")):
        with pytest.raises(UnknownName, match="did you mean"):
            get_recipe(*names)
    with pytest.raises(UnknownName, match="did you mean 'epochs'"):
        get_recipe("s2", "ViT", epoch=3)


def test_s0_values():
    r = get_recipe("s0", "MultiTaskUNet")
    assert (r.optimizer, r.lr, r.batch_size, r.epochs, r.val_fraction) == ("AdamW", 3e-4, 32, 100, 0.2)
    assert (r.augmentation, r.sampling, r.balance, r.model_args) == ("s0", "balanced", "ema", {"width": 64})


@pytest.mark.parametrize("epochs", [100, 8])
def test_s0_cosine_goes_over_all_epochs_whatever_their_number(epochs):
    recipe = get_recipe("s0", "MultiTaskUNet", epochs=epochs)
    optimizer = make_optimizer(recipe, [torch.nn.Parameter(torch.zeros(1))])
    scheduler = make_scheduler(recipe, optimizer)
    seen = []
    for _ in range(epochs + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen[0] == 3e-4 and seen[epochs // 2] == pytest.approx(1.5e-4) and seen[-1] == pytest.approx(0, abs=1e-12)


def test_what_s0_reported_follows_from_its_confusion_matrices():
    for place in (("sartaj", "published"), ("brain-tumor-mri", "cleaned")):
        reported = published("s0", "MultiTaskUNet", *place)
        matrix = np.array(reported["confusion"])
        assert matrix.trace() / matrix.sum() == pytest.approx(reported["accuracy"], abs=5e-5), place
        f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
        assert f1.mean() == pytest.approx(reported.get("macro_f1", f1.mean()), abs=5e-5), place
        recall = np.diag(matrix) / matrix.sum(1)
        for label, value in reported.get("recall_by_class", {}).items():
            assert recall[CLASSES.index(label)] == pytest.approx(value, abs=5e-4), (place, label)


def test_the_ablation_changes_one_thing_at_a_time():
    s0, changed = get_recipe("s0", "MultiTaskUNet"), {}
    for name in ABLATION:
        r = get_recipe(name, "MultiTaskUNet")
        changed[name] = {k for k in vars(s0) if getattr(s0, k) != getattr(r, k)} - {"name", "source", "published"}
    assert changed == {
        "s0-kendall": {"balance", "balance_lr"},
        "s0-fixed": {"balance"},
        "s0-classify": {"balance", "model_args"},  # one loss has nothing to be balanced with
        "s0-flat": {"model_args"},
        "s0-flat-classify": {"balance", "model_args"},
    }


def test_a_negative_number_of_epochs_is_refused():
    with pytest.raises(DataError, match="-1 epochs: at least one is wanted"):
        get_recipe("s2", "CustomCNN", epochs=-1)
