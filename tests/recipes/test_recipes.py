"""Recipes have the values of their sources, one change at a time, and a default for new networks."""

import numpy as np
import pandas as pd
import pytest
import torch

import models
from datasets.catalog import CLASSES, DataError, UnknownName
from models import BACKBONES
from utils.recipes import RECIPES, get_recipe
from utils.recipes.ours import INGREDIENTS, LONGER
from utils.recipes.published import FOLDER, differences, published, published_table
from utils.recipes.s0 import ABLATION

S2 = {"optimizer": "Adam", "lr": 1e-4, "batch_size": 64, "select": "last", "epochs": 50, "weight_decay": 1e-5}
UNET = {"optimizer": "Adam", "lr": 2e-3, "weight_decay": 1e-2, "batch_size": 32, "epochs": 20, "loss": "bce"}
UNET |= {"schedule_args": {"gamma": 0.9}, "augmentation": "none", "model_args": {"n_filters": 32}}
S4 = {"optimizer": "Adam", "lr": 1e-4, "batch_size": 32, "model_args": {"head": "two-layers"}}
VALUES = [  # recipe, network, its values, and what the source reported with it: data set, split, metric, value
    ("s2", "CustomCNN", S2 | {"epochs": 40, "augmentation": "s2"}, ("published", "accuracy", 0.9870)),
    ("s2", "AlexNet", S2 | {"schedule": "StepLR", "augmentation": "none"}, ("published", "accuracy", 0.8986)),
    ("s2", "VGG16", S2 | {"weight_decay": 0.0, "schedule": None}, ("published", "accuracy", 0.9535)),
    ("s2", "ViT", S2 | {"schedule": "StepLR", "augmentation": "s2"}, ("published", "accuracy", 0.8810)),
    *[("s2", f"{n}UNet", UNET, ("slices", "dice", d)) for n, d in (("Classic", 0.861), ("Attention", 0.918))],
    ("s0", "MultiTaskUNet", {"lr": 3e-4, "epochs": 100, "val_fraction": 0.2, "sampling": "balanced"}, None),
    ("s0", "Swin-B", {"optimizer": "AdamW", "epochs": 500, "label_smoothing": 0.05, "unfreeze": "all"}, None),
    ("s1", "VGG19", {"optimizer": "Adam", "schedule": "ReduceLROnPlateau", "unfreeze": 8}, None),
    ("s1", "ViT-B16", {"optimizer": "AdamW", "unfreeze": 10}, None),
    ("s3", "EfficientNetV2-S", {"batch_size": 16, "head_l2": 1e-4}, ("published", "accuracy", 0.9184)),
    *[("s4", n, S4 | {"epochs": e}, None) for n, e in (("ResNet50", 5), ("EfficientNetV2-B1", 80), ("ConvNeXt-S", 20))],
    ("s4", "ViT-B16", S4 | {"lr": 4e-3, "epochs": 30, "patience": 4, "unfreeze": "none"}, None),
    ("chexnet", "SqueezeNet", {"lr": 1e-4, "loss": "weighted-bce"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "values", "reported"), VALUES)
def test_values_are_those_of_the_source(name, model, values, reported):
    recipe = get_recipe(name, model)
    assert {key: getattr(recipe, key) for key in values} == values
    if reported:
        split, metric, value = reported
        data = "brats2020" if split == "slices" else "brain-tumor-mri"
        assert published(name, model, data, split)[metric] == value and published("ours", model, data, split) is None


def test_stages_share_the_epochs_as_planned():
    s3 = get_recipe("s3", "EfficientNetV2-S")
    found = [(s.epochs, s.warmup, s.patience, s.unfreeze) for s in s3.in_stages()]
    assert found == [(25, 3, 8, "none"), (35, 5, 12, 0.3), (15, 2, 10, "all")]
    assert [s.in_stages() for s in s3.in_stages()] == [[s] for s in s3.in_stages()], "each can be trained alone"
    assert [s.epochs for s in get_recipe("s3", "EfficientNetV2-S", epochs=8).in_stages()] == [3, 4, 2]


@pytest.mark.parametrize(
    ("base", "model", "changed"),
    [
        *[("s0", "MultiTaskUNet", ABLATION), ("ours", "SqueezeNet", INGREDIENTS), ("probe-first", "VGG16", LONGER)],
        ("s2", "AttentionUNet", {"ours": dict.fromkeys(("loss", "optimizer", "augmentation", "model_args"))}),
    ],
)
def test_a_variant_differs_in_what_it_says(base, model, changed):
    for name, changes in changed.items():
        before, after = vars(get_recipe(base, model)), vars(get_recipe(name, model))
        assert {key for key in before if before[key] != after[key]} == {"name", "source", *changes}
        single = [str(value) for value in changes.values() if isinstance(value, str | float)]
        assert all(value in after["source"] for value in single) and "{" not in after["source"]


@pytest.mark.parametrize("row", pd.read_csv(FOLDER / "differences.csv").to_dict("records"), ids=lambda row: row["what"])
def test_what_a_report_says_and_its_code_does_can_both_be_run(row):
    said, done = (get_recipe(row[f"{whose} recipe"], row["network"]) for whose in ("report", "code"))
    assert getattr(said, row["value"]) != getattr(done, row["value"])
    assert said.name.startswith(row["source"]) and done.name.startswith(row["source"])
    assert list(differences().columns) == ["source", "what", "report", "code", "report recipe", "code recipe"]


def test_what_was_reported_of_what():
    assert published("s3", "EfficientNetV2-S", "brain-tumor-mri", "published")["micro_auc"] == 0.9902
    assert published("s0", "ResNeXt50", "sartaj", "validation")["accuracy"] == 0.9983
    assert published("s0", "MobileNetV3-Large", "sartaj", "five-fold")["accuracy"] == 0.9844
    assert set(published_table().query("source == 's0' and dataset == 'brain-tumor-mri'").model) == {"MultiTaskUNet"}


@pytest.mark.parametrize("recipe", [name for name, of in RECIPES.items() if "any classifier" in of])
def test_a_network_that_no_recipe_names_has_a_default(recipe, monkeypatch):
    """One of `MODELS` has no backbone to be fine-tuned; it takes the rest."""
    assert all(get_recipe(recipe, name).name == recipe for name in (*BACKBONES, "resnet18"))
    monkeypatch.setitem(models.MODELS, "TinyNet", torch.nn.Flatten)
    tiny, backbone = get_recipe(recipe, "TinyNet"), get_recipe(recipe, "resnet18")
    assert (tiny.unfreeze, tiny.freeze_bn, tiny.backbone_lr_mult, tiny.stages) == ("all", False, 1.0, ())
    same = ("name", "source", "optimizer", "lr", "epochs", "augmentation", "label_smoothing", "class_weights")
    assert all(getattr(tiny, key) == getattr(backbone, key) for key in same)


def test_misspelt_names_and_networks_of_another_kind_are_named():
    for name, model, changes in (("s2x", "ViT", {}), ("s2-dice", "ClasicUNet", {}), ("s2", "ViT", {"epoch": 3})):
        with pytest.raises(UnknownName, match="did you mean"):
            get_recipe(name, model, **changes)
    with pytest.raises(UnknownName, match="unknown model of recipe s1 'AttentionUNet'"):
        get_recipe("s1", "AttentionUNet")
    with pytest.raises(DataError, match="-1 epochs: at least one is wanted"):
        get_recipe("s2", "CustomCNN", epochs=-1)


def test_what_s0_reported_follows_from_its_confusion_matrices():
    for place in (("sartaj", "published"), ("brain-tumor-mri", "cleaned")):
        reported = published("s0", "MultiTaskUNet", *place)
        matrix = np.array(reported["confusion"])
        assert "confusion_by_class" not in reported
        assert matrix.trace() / matrix.sum() == pytest.approx(reported["accuracy"], abs=5e-5), place
        f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
        assert f1.mean() == pytest.approx(reported.get("macro_f1", f1.mean()), abs=5e-5), place
        for label, value in reported.get("recall_by_class", {}).items():
            i = CLASSES.index(label)
            assert matrix[i, i] / matrix[i].sum() == pytest.approx(value, abs=5e-4), (place, label)
