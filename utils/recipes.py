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
        schedule, schedule_args: a class of `torch.optim.lr_scheduler`, stepped once an epoch, or None. The argument
            "epochs" stands for the number of epochs, whatever it is changed to.
        augmentation: a key of `tasks.AUGMENTATIONS`.
        sampling: "balanced" draws every class equally often, each picture with weight 1/(pictures of its class).
        loss: of a segmentation, a key of `tasks.LOSSES`; classification has one only.
        balance: of several losses, a key of `balancing.BALANCES`; balance_lr: the rate of weights that it learns.
        model_args: what the model is built with besides its channels.
        select: which epoch's weights are kept: "last", or "best" by validation accuracy. Never by the test part.
        val_fraction: share of the training part that is held out for validation, cut by group.
        published: numbers printed by the source for this recipe, by the "data set/protocol" that they belong to.
    """

    name: str
    source: str
    epochs: int
    batch_size: int = 64
    optimizer: str = "Adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str | None = None
    schedule_args: Mapping[str, float | str] = field(default_factory=dict)
    augmentation: str = "none"
    sampling: str = "shuffled"
    loss: str = ""
    balance: str = ""
    balance_lr: float = 0.0
    model_args: Mapping[str, int | bool] = field(default_factory=dict)
    select: str = "last"
    val_fraction: float = 0.1
    published: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def make_optimizer(
        self, parameters: Iterable[torch.nn.Parameter], of_balance: Iterable[torch.nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """The optimiser over `parameters`, and over those of the balance, which are not pulled towards 0."""
        groups = [{"params": list(parameters)}]
        if of_balance := list(of_balance):
            groups.append({"params": of_balance, "lr": self.balance_lr, "weight_decay": 0.0})
        return getattr(torch.optim, self.optimizer)(groups, lr=self.lr, weight_decay=self.weight_decay)

    def make_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """The schedule of `optimizer`, to be stepped after each epoch, or None."""
        if self.schedule is None:
            return None
        arguments = {name: self.epochs if value == "epochs" else value for name, value in self.schedule_args.items()}
        return getattr(torch.optim.lr_scheduler, self.schedule)(optimizer, **arguments)


_S2 = Recipe(
    name="s2",
    source="S2, report: Adam 1e-4, weight decay 1e-5, StepLR(10, .5), batch 64, 50 epochs",
    epochs=50,
    weight_decay=1e-5,
    schedule="StepLR",
    schedule_args={"step_size": 10, "gamma": 0.5},
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
)


def _on_published(accuracy: float, confidence: float) -> dict[str, dict[str, float]]:
    return {"brain-tumor-mri/published": {"accuracy": accuracy, "confidence": confidence}}


def _on_slices(dice: float, iou: float, precision: float, recall: float, accuracy: float) -> dict[str, dict]:
    values = {"dice": dice, "iou": iou, "precision": precision, "recall": recall, "accuracy": accuracy}
    return {"brats2020/slices": values}


_S0 = Recipe(
    name="s0",
    source="S0, report: AdamW 3e-4, cosine over all epochs, batch 32, 100 epochs, width 64, a fifth for validation",
    epochs=100,
    batch_size=32,
    optimizer="AdamW",
    lr=3e-4,
    weight_decay=1e-2,  # not printed: the default of torch's AdamW
    schedule="CosineAnnealingLR",
    schedule_args={"T_max": "epochs"},
    augmentation="s0",
    sampling="balanced",
    balance="ema",
    model_args={"width": 64},
    val_fraction=0.2,
    # Rows truth, columns decision: glioma, meningioma, notumor, pituitary. S0's copy of Sartaj's test part has 418
    # pictures, 24 more without a tumour than the published one.
    published={
        "sartaj/published": {
            "accuracy": 0.7775,
            "confusion": [[25, 28, 37, 10], [0, 109, 5, 1], [0, 0, 129, 0], [0, 5, 7, 62]],
        },
        "brain-tumor-mri/cleaned": {
            "accuracy": 0.9733,
            "macro_f1": 0.9721,
            "confusion": [[286, 12, 0, 1], [1, 186, 3, 5], [0, 0, 74, 0], [0, 1, 0, 292]],
        },
    },
)

# S2 gives each model its own variant; the published numbers are its test accuracy and confidence.
RECIPES: dict[str, dict[str, Recipe]] = {
    "s2": {
        "CustomCNN": replace(_S2, epochs=40, augmentation="s2", published=_on_published(0.9870, 0.9998)),
        "AlexNet": replace(_S2, published=_on_published(0.8986, 0.9653)),
        "VGG16": replace(
            _S2, weight_decay=0.0, schedule=None, schedule_args={}, published=_on_published(0.9535, 0.9776)
        ),
        "ViT": replace(_S2, augmentation="s2", published=_on_published(0.8810, 0.9328)),
        # validation scores after 20 epochs, slices of one patient on both sides, metrics pooled by batch
        "ClassicUNet": replace(_S2_UNET, published=_on_slices(0.861, 0.758, 0.880, 0.845, 0.9981)),
        "ImprovedUNet": replace(_S2_UNET, published=_on_slices(0.917, 0.847, 0.934, 0.901, 0.9989)),
        "AttentionUNet": replace(_S2_UNET, published=_on_slices(0.918, 0.849, 0.934, 0.902, 0.9989)),
    },
    "s0": {"MultiTaskUNet": _S0},
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
        model: replace(s2, name=_name, source=_source, published={}, **_changes)
        for model, s2 in RECIPES["s2"].items()
        if s2.loss
    }
# Gates whose scores are scaled in every picture cannot be open or shut everywhere.
for _name in ("ours", "ours-batch8"):
    _gated = RECIPES[_name]["AttentionUNet"]
    RECIPES[_name]["AttentionUNet"] = replace(_gated, model_args=dict(_gated.model_args) | {"normalised": True})
RECIPES["ours"]["ResidualUNet"] = RECIPES["ours"]["ImprovedUNet"]

# What is taken out of S0's method or put in its place, alone and together: the ablation. A loss that is alone needs
# no balance. Kendall's weights get a rate of their own: at 3e-4 a few thousand steps would hardly move them.
_NO_DECODER = {"model_args": {**_S0.model_args, "reconstruct": False}, "balance": "fixed"}
_ONE_HEAD = {"model_args": {**_S0.model_args, "hierarchical": False}}
ABLATION: dict[str, dict[str, object]] = {
    "s0-kendall": {"balance": "kendall", "balance_lr": 1e-2},
    "s0-fixed": {"balance": "fixed"},
    "s0-classify": _NO_DECODER,
    "s0-flat": _ONE_HEAD,
    "s0-flat-classify": _NO_DECODER | {"model_args": {**_NO_DECODER["model_args"], "hierarchical": False}},
}
for _name, _changes in ABLATION.items():
    RECIPES[_name] = {
        "MultiTaskUNet": replace(_S0, name=_name, source=f"S0, with {_changes}", published={}, **_changes)
    }

# Quick mode shows every step in a minute; its numbers are no evidence. The rate is raised to learn something in it.
QUICK = {"epochs": 6, "lr": 5e-4}
QUICK_SEGMENTATION = {"epochs": 3, "batch_size": 8}
QUICK_MULTITASK = {"epochs": 5, "batch_size": 16, "lr": 1e-3}


def get_recipe(name: str, model: str, **changes: object) -> Recipe:
    """Recipe `name` for `model`, with `changes` (such as `epochs=15`) applied.

    Raises:
        UnknownName: a recipe, model or field that does not exist; the message suggests the nearest.
    """
    recipe = lookup(lookup(RECIPES, name, "recipe"), model, f"model of recipe {name}")
    for change in changes:
        lookup(Recipe.__dataclass_fields__, change, "recipe value")
    return replace(recipe, **changes)
