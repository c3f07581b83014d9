"""How each model is trained: every value of a recipe with its source, so that a run can be read and repeated.

A recipe knows nothing of models or data; `training.fit` carries it out, `tasks.py` knows the loss.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from datasets.catalog import lookup
from models.backbones import BACKBONES


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, augmentation and stopping of one training.

    Attributes:
        source: where the values come from.
        optimizer, lr, weight_decay: a class of `torch.optim` and its two rates.
        schedule, schedule_args: a class of `torch.optim.lr_scheduler`, or None; or "warmup_cosine". The argument
            "epochs" stands for the number of epochs, whatever it is changed to.
        schedule_step: "epoch" or "batch", after which the schedule moves on.
        warmup: epochs in which the rate of "warmup_cosine" rises to `lr` in equal steps.
        patience: epochs without a better validation accuracy after which training ends; 0: it never does.
        augmentation: a key of `tasks.AUGMENTATIONS`.
        sampling: "balanced" draws every class equally often, each picture with weight 1/(pictures of its class).
        loss: of a segmentation, a key of `tasks.LOSSES`; classification has one only.
        label_smoothing: share of a target that is spread over all classes.
        class_weights: each picture's loss counts total / (classes · pictures of its class).
        trains: what of a backbone trains, see `finetuning.py`; frozen_norm: all its batch-norm statistics are kept.
        backbone_rate: the backbone's rate as a share of the head's (discriminative rates).
        head_l2: Keras's L2 on the weights of the head's hidden layers.
        stages: changes to this recipe for each stage of a training in stages; the epochs of a stage are its share of
            `epochs`. `stage`: the name of one of them.
        tta: key of `tasks.AUGMENTATIONS` that `evaluation.predict_tta` draws from, "" where nothing is said.
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
    schedule_step: str = "epoch"
    warmup: int = 0
    patience: int = 0
    augmentation: str = "none"
    sampling: str = "shuffled"
    loss: str = ""
    label_smoothing: float = 0.0
    class_weights: bool = False
    balance: str = ""
    balance_lr: float = 0.0
    trains: str | float = "all"
    frozen_norm: bool = False
    backbone_rate: float = 1.0
    head_l2: float = 0.0
    stages: tuple[Mapping[str, object], ...] = ()
    stage: str = ""
    tta: str = ""
    model_args: Mapping[str, int | bool | str] = field(default_factory=dict)
    select: str = "last"
    val_fraction: float = 0.1
    published: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def in_stages(self) -> list["Recipe"]:
        """This recipe itself, or a recipe for each of its stages, in order."""
        planned = sum(stage["epochs"] for stage in self.stages)
        return [self._of_stage(stage, self.epochs / planned) for stage in self.stages] or [self]

    def _of_stage(self, stage: Mapping[str, object], share: float) -> "Recipe":
        epochs = max(1, round(share * stage["epochs"]))
        warmup = min(round(share * stage.get("warmup", 0)), epochs - 1)
        return replace(self, stages=(), **(dict(stage) | {"epochs": epochs, "warmup": warmup}))

    def make_optimizer(
        self, parameters: Iterable[torch.nn.Parameter | dict], of_balance: Iterable[torch.nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """The optimiser over `parameters` (or groups of them, which may have rates of their own), and over those of
        the balance, which are not pulled towards 0."""
        parameters = list(parameters)
        groups = parameters if isinstance(parameters[0], dict) else [{"params": parameters}]
        if of_balance := list(of_balance):
            groups.append({"params": of_balance, "lr": self.balance_lr, "weight_decay": 0.0})
        return getattr(torch.optim, self.optimizer)(groups, lr=self.lr, weight_decay=self.weight_decay)

    def make_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """The schedule of `optimizer`, to be stepped after each `schedule_step`, or None."""
        if self.schedule is None:
            return None
        arguments = {name: self.epochs if value == "epochs" else value for name, value in self.schedule_args.items()}
        if self.schedule == "warmup_cosine":
            return LambdaLR(optimizer, partial(self._warmup_cosine, **arguments))
        return getattr(lr_scheduler, self.schedule)(optimizer, **arguments)

    def _warmup_cosine(self, epoch: int, floor: float) -> float:
        """Rate of `epoch`, from 0, as a share of the highest: equal steps up, then half a cosine down to `floor`."""
        if epoch < self.warmup:
            return (epoch + 1) / self.warmup
        done = (epoch - self.warmup) / max(1, self.epochs - self.warmup)
        lowest = floor / self.lr
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2


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

# Transfer learning, for any backbone; what a source did with one of them alone stands below.
_S0_TRANSFER = replace(
    _S0,
    source="S0, report: as its U-Net, with label smoothing .05, all layers, up to 500 epochs",
    epochs=500,
    balance="",
    label_smoothing=0.05,
    model_args={"head": "linear"},  # the head is not described
    published={},
)
_S1 = Recipe(
    name="s1",
    source="S1, report: frozen but for the last 10 layers, average pool, linear head, Adam, cross-entropy, "
    "ReduceLROnPlateau. Not given, so ours: rate, batch, epochs, factor and patience",
    epochs=50,
    batch_size=32,
    lr=1e-3,
    schedule="ReduceLROnPlateau",
    schedule_args={"factor": 0.1, "patience": 3},
    trains=10,
    model_args={"head": "linear"},
    val_fraction=0.15 / 0.85,
)
_S3 = Recipe(
    name="s3",
    source="S3, report and code: three stages, Adam, batch 16, warm-up and cosine to 1e-7, label smoothing .1, class "
    "weights, L2 1e-4 on the head's hidden layers, batch-norm statistics frozen",
    epochs=75,
    batch_size=16,
    lr=1e-3,
    schedule="warmup_cosine",
    schedule_args={"floor": 1e-7},
    augmentation="s3",
    label_smoothing=0.1,
    class_weights=True,
    frozen_norm=True,
    head_l2=1e-4,
    stages=(
        {"stage": "head", "trains": "none", "lr": 1e-3, "epochs": 25, "warmup": 3, "patience": 8},
        {"stage": "top", "trains": 0.3, "lr": 1e-4, "epochs": 35, "warmup": 5, "patience": 12},
        {"stage": "all", "trains": "all", "lr": 5e-5, "epochs": 15, "warmup": 2, "patience": 10},
    ),
    tta="s3-tta",
    model_args={"head": "dual"},
    select="best",
    val_fraction=0.15,
)
_S4 = Recipe(
    name="s4",
    source="S4, report: average pool, dropout .2, 512, 256; flips and zoom .1, batch 32, Adam 1e-4",
    epochs=20,
    batch_size=32,
    augmentation="s4",
    model_args={"head": "two-layers"},
    val_fraction=0.2,
)
# Chosen among seventeen tries on validation patients of fold 0 of `brain-tumor-mri` (SqueezeNet, warm, 64 pixels).
_OURS = Recipe(
    name="ours",
    source="AdamW, warm-up and cosine, a slower backbone, S0's augmentation and balanced classes, "
    "S3's smoothing and head",
    epochs=8,
    batch_size=32,
    optimizer="AdamW",
    lr=1e-3,
    weight_decay=1e-2,
    schedule="warmup_cosine",
    schedule_args={"floor": 1e-6},
    warmup=1,
    augmentation="s0",
    sampling="balanced",
    label_smoothing=0.1,
    backbone_rate=0.3,
    model_args={"head": "dual"},
    val_fraction=0.1,
)
# What `ours` consists of, each taken away or exchanged alone. Its one epoch of warm-up is no ramp: it has the full rate
# already, so "no-warmup" begins the cosine an epoch earlier and shows what chance does.
INGREDIENTS: dict[str, dict[str, object]] = {
    "ours-frozen": {"trains": "none"},
    "ours-top30": {"trains": 0.3},
    "ours-one-rate": {"backbone_rate": 1.0},
    "ours-no-warmup": {"warmup": 0},
    "ours-no-augmentation": {"augmentation": "none"},
    "ours-s3-augmentation": {"augmentation": "s3"},
    "ours-no-smoothing": {"label_smoothing": 0.0},
    "ours-unbalanced": {"sampling": "shuffled"},
    "ours-linear-head": {"model_args": {"head": "linear"}},
}
for _recipe in (
    _S0_TRANSFER,
    _S1,
    _S3,
    _S4,
    _OURS,
    *(replace(_OURS, name=n, source=f"ours, with {changes}", **changes) for n, changes in INGREDIENTS.items()),
):
    RECIPES.setdefault(_recipe.name, {}).update({name: _recipe for name in BACKBONES})


def _printed(recipe: str, model: str, place: str, values: Mapping[str, object], **changes: object) -> None:
    known = RECIPES[recipe][model]
    RECIPES[recipe][model] = replace(known, published={**known.published, place: values}, **changes)


# S0 on 418 test pictures, 24 more without a tumour than the published part has; recall of each class.
for _name, _accuracy, _recalls in (
    ("MobileNetV2", 0.8254, (0.40, 0.991, 1.0, 0.838)),
    ("Swin-B", 0.8038, (0.33, 1.0, 1.0, 0.797)),
    ("VGG16", 0.7990, (0.26, 0.983, 0.977, 0.932)),
    ("MobileNetV3-Large", 0.7895, (0.27, 0.991, 1.0, 0.811)),
    ("ViT-L32", 0.7273, (0.21, 0.965, 1.0, 0.581)),
):
    _recall = dict(zip(("glioma", "meningioma", "notumor", "pituitary"), _recalls, strict=True))
    _printed("s0", _name, "sartaj/published", {"accuracy": _accuracy, "recall": _recall})
_printed("s0", "MobileNetV3-Large", "brain-tumor-mri/five-fold of the cleaned", {"accuracy": 0.9844})
# S1 on ReMIND, which is not at hand: 107 patients, 399 slices each (ViT: 133), four classes, by patient.
for _name, _accuracy, _f2, _auc in (
    ("VGG19", 0.931, 0.931, 0.99),
    ("InceptionV3", 0.477, 0.472, 0.73),
    ("DenseNet121", 0.871, 0.871, 0.98),
    ("Xception", 0.884, 0.884, 0.98),
    ("ResNet50", 0.934, 0.934, 0.97),
    ("ViT-B16", 0.584, 0.215, 0.80),  # which ViT is not said
):
    _values = {"accuracy": _accuracy, "macro_f2": _f2, "macro_auc": _auc}
    _printed("s1", _name, "remind/patient", _values, **({"optimizer": "AdamW"} if _name == "ViT-B16" else {}))
_printed(
    "s3",
    "EfficientNetV2-S",
    "brain-tumor-mri/published",
    {"accuracy": 0.9184, "macro_f1": 0.9132, "macro_auc": 0.9902, "accuracy with TTA": 0.9191},
)
# S4 on 44 classes, except ResNet50 and the last ViT: tumour or none. It counted layers as Keras does; where it says of
# how many, the share that trained is kept, and where it does not (ResNetRS152, frozen below 700) a tenth is our guess.
for _name, _accuracy, _changes in (
    ("ResNetRS152", 0.94, {"trains": 0.1}),
    ("EfficientNetV2-B1", 0.96, {"trains": 14 / 334, "epochs": 80}),
    (
        "ConvNeXt-S",
        0.89,
        # Keras's ExponentialDecay: the rate falls by .9 in 10,000 steps, a little with each
        {
            "trains": 45 / 295,
            "schedule": "ExponentialLR",
            "schedule_args": {"gamma": 0.9 ** (1 / 10_000)},
            "schedule_step": "batch",
        },
    ),
    ("ViT-B16", 0.77, {"trains": "none", "patience": 4}),
):
    _printed("s4", _name, "s4-44/random", {"accuracy": _accuracy}, **_changes)
_printed("s4", "ResNet50", "s4-binary/random", {"accuracy": 0.99}, trains=45 / 175, epochs=5)

# Quick mode shows every step in a minute; its numbers are no evidence. The rate is raised to learn something in it.
QUICK = {"epochs": 6, "lr": 5e-4}
QUICK_SEGMENTATION = {"epochs": 3, "batch_size": 8}
QUICK_TRANSFER = {"epochs": 4, "batch_size": 16}
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
