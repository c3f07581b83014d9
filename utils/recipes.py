"""How each model is trained: every value of a recipe with its source, so that a run can be read and repeated.

A recipe knows nothing of models or data; `training.fit` carries it out, `tasks.py` knows the loss.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch.optim.lr_scheduler import LRScheduler

from datasets.catalog import lookup


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, augmentation and stopping of one training.

    Attributes:
        source: where the values come from.
        optimizer, lr, weight_decay: a class of `torch.optim` and its two rates.
        schedule, schedule_args: a class of `torch.optim.lr_scheduler`, stepped once an epoch, or None.
        augmentation: a key of `tasks.AUGMENTATIONS`.
        loss: of a segmentation, a key of `tasks.LOSSES`; classification has one only.
        model_args: what the model is built with besides its channels.
        select: which epoch's weights are kept: "last", or "best" by validation accuracy. Never by the test part.
        val_fraction: share of the training part that is held out for validation, cut by group.
        published: numbers printed by the source for this recipe; `published_on` is "data set/protocol" they belong to.
    """

    name: str
    source: str
    epochs: int
    batch_size: int = 64
    optimizer: str = "Adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str | None = None
    schedule_args: Mapping[str, float] = field(default_factory=dict)
    augmentation: str = "none"
    loss: str = ""
    model_args: Mapping[str, int | bool] = field(default_factory=dict)
    select: str = "last"
    val_fraction: float = 0.1
    published: Mapping[str, float] = field(default_factory=dict)
    published_on: str = ""

    def make_optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over `parameters`."""
        return getattr(torch.optim, self.optimizer)(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def make_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """The schedule of `optimizer`, to be stepped after each epoch, or None."""
        if self.schedule is None:
            return None
        return getattr(torch.optim.lr_scheduler, self.schedule)(optimizer, **self.schedule_args)


_S2 = Recipe(
    name="s2",
    source="S2, report: Adam 1e-4, weight decay 1e-5, StepLR(10, .5), batch 64, 50 epochs",
    epochs=50,
    weight_decay=1e-5,
    schedule="StepLR",
    schedule_args={"step_size": 10, "gamma": 0.5},
    published_on="brain-tumor-mri/published",
)

_S2_UNET = Recipe(
    name="s2",
    source="S2, report: BCE, Adam 2e-3, weight decay 1e-2, exponential .9, batch 32, n_filters 32, 20 epochs",
    epochs=20,
    batch_size=32,
    lr=2e-3,
    weight_decay=1e-2,
    schedule="ExponentialLR",
    schedule_args={"gamma": 0.9},
    loss="bce",
    model_args={"n_filters": 32},
    published_on="brats2020/slices",
)

# S2 gives each model its own variant; the published numbers are its test accuracy and confidence.
RECIPES: dict[str, dict[str, Recipe]] = {
    "s2": {
        "CustomCNN": replace(_S2, epochs=40, augmentation="s2", published={"accuracy": 0.9870, "confidence": 0.9998}),
        "AlexNet": replace(_S2, published={"accuracy": 0.8986, "confidence": 0.9653}),
        "VGG16": replace(
            _S2,
            weight_decay=0.0,
            schedule=None,
            schedule_args={},
            published={"accuracy": 0.9535, "confidence": 0.9776},
        ),
        "ViT": replace(_S2, augmentation="s2", published={"accuracy": 0.8810, "confidence": 0.9328}),
        # validation scores after 20 epochs, slices of one patient on both sides, metrics pooled by batch
        "ClassicUNet": replace(
            _S2_UNET,
            published={"dice": 0.861, "iou": 0.758, "precision": 0.880, "recall": 0.845, "accuracy": 0.9981},
        ),
        "ImprovedUNet": replace(
            _S2_UNET,
            published={"dice": 0.917, "iou": 0.847, "precision": 0.934, "recall": 0.901, "accuracy": 0.9989},
        ),
        "AttentionUNet": replace(
            _S2_UNET,
            published={"dice": 0.918, "iou": 0.849, "precision": 0.934, "recall": 0.902, "accuracy": 0.9989},
        ),
    },
}

# What is changed in S2's segmentation, alone and together; validation patients say what a change is worth.
_DICE = {"loss": "dice+bce"}  # MONAI's Dice beside BCE: a tumour fills 2 % of a slice
# Decay apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101). S2 wrote Adam, but its decay of 1e-2 is
# the default of torch's AdamW, and its stuck gates come out with AdamW only.
_DECOUPLED = {"optimizer": "AdamW"}
CHANGES: dict[str, dict[str, object]] = {
    "s2-dice": _DICE,
    "s2-adamw": _DECOUPLED,
    "s2-dice-adamw": _DICE | _DECOUPLED,
    "ours": _DICE | _DECOUPLED | {"augmentation": "s2"},
    "ours-batch8": _DICE | _DECOUPLED | {"augmentation": "s2", "batch_size": 8},  # more steps where slices are few
}
for _name, _changes in CHANGES.items():
    _source = "S2, with " + ", ".join(map(str, _changes.values()))
    RECIPES[_name] = {
        model: replace(s2, name=_name, source=_source, published={}, published_on="", **_changes)
        for model, s2 in RECIPES["s2"].items()
        if s2.loss
    }
# Gates whose scores are scaled in every picture cannot be open or shut everywhere.
for _name in ("ours", "ours-batch8"):
    _gated = RECIPES[_name]["AttentionUNet"]
    RECIPES[_name]["AttentionUNet"] = replace(_gated, model_args=dict(_gated.model_args) | {"normalised": True})
RECIPES["ours"]["ResidualUNet"] = RECIPES["ours"]["ImprovedUNet"]

# Quick mode shows every step in a minute; its numbers are no evidence. The rate is raised to learn something in it.
QUICK = {"epochs": 6, "lr": 5e-4}
QUICK_SEGMENTATION = {"epochs": 3, "batch_size": 8}


def get_recipe(name: str, model: str, **changes: object) -> Recipe:
    """Recipe `name` for `model`, with `changes` (such as `epochs=15`) applied.

    Raises:
        UnknownName: a recipe, model or field that does not exist; the message suggests the nearest.
    """
    recipe = lookup(lookup(RECIPES, name, "recipe"), model, f"model of recipe {name}")
    for change in changes:
        lookup(Recipe.__dataclass_fields__, change, "recipe value")
    return replace(recipe, **changes)
