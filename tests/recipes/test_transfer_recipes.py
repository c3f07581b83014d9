"""Recipes for backbones: the values of S0, S1, S3 and S4, stages, and our ingredients."""

import pytest

from models import BACKBONES
from utils.recipes import get_recipe
from utils.recipes.ours import INGREDIENTS
from utils.recipes.published import published


def test_stages_share_the_epochs_as_planned():
    s3 = get_recipe("s3", "EfficientNetV2-S")
    assert [(s.epochs, s.warmup, s.patience, s.unfreeze) for s in s3.in_stages()] == [
        (25, 3, 8, "none"), (35, 5, 12, 0.3), (15, 2, 10, "all")
    ]  # fmt: skip
    assert [s.epochs for s in get_recipe("s3", "EfficientNetV2-S", epochs=8).in_stages()] == [3, 4, 2]
    assert get_recipe("ours", "ResNet50").in_stages() == [get_recipe("ours", "ResNet50")]


def test_values_of_the_recipes():
    s0, s1 = get_recipe("s0", "Swin-B"), get_recipe("s1", "VGG19")
    assert (s0.optimizer, s0.lr, s0.batch_size, s0.epochs, s0.label_smoothing) == ("AdamW", 3e-4, 32, 500, 0.05)
    assert (s0.unfreeze, s0.sampling, s0.augmentation, s0.val_fraction) == ("all", "balanced", "s0", 0.2)
    assert (s1.optimizer, s1.schedule, s1.unfreeze) == ("Adam", "ReduceLROnPlateau", 10)
    assert get_recipe("s1", "ViT-B16").optimizer == "AdamW"
    s3 = get_recipe("s3", "EfficientNetV2-S")
    assert (s3.optimizer, s3.batch_size, s3.label_smoothing, s3.head_l2) == ("Adam", 16, 0.1, 1e-4)
    assert (s3.class_weights, s3.freeze_bn, s3.select, s3.val_fraction) == (True, True, "best", 0.15)
    assert published("s3", "EfficientNetV2-S", "brain-tumor-mri", "published")["accuracy"] == 0.9184
    s4 = {name: get_recipe("s4", name) for name in ("ResNet50", "EfficientNetV2-B1", "ConvNeXt-S", "ViT-B16")}
    assert all((r.optimizer, r.lr, r.batch_size) == ("Adam", 1e-4, 32) for r in s4.values())
    assert [r.epochs for r in s4.values()] == [5, 80, 20, 20] and s4["ViT-B16"].patience == 4
    assert {r.model_args["head"] for r in s4.values()} == {"two-layers"}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_every_recipe(name):
    for recipe in ("s0", "s1", "s3", "s4", "ours", *INGREDIENTS):
        assert get_recipe(recipe, name).name == recipe


def test_each_ingredient_differs_in_one_thing():
    ours = get_recipe("ours", "SqueezeNet")
    for name, changes in INGREDIENTS.items():
        r = get_recipe(name, "SqueezeNet")
        differs = {k for k in vars(ours) if getattr(ours, k) != getattr(r, k)} - {"name", "source"}
        assert differs == set(changes) and len(changes) == 1
