"""`Recipe`: every value of how a model is trained, as data.

A recipe knows neither models nor data and loads no network; `training/loop.py` carries it out. One file a source:
`s0.py` to `s4.py`, `ours.py`. The results that the sources reported are in `published.csv`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from datasets.catalog import DataError

ANY_BACKBONE = "any backbone"  # in a table of recipes: for every backbone without a line of its own


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, augmentation and stopping of one training.

    Attributes:
        source: where the values come from.
        optimizer, lr, weight_decay: a class of `torch.optim` and its two rates.
        schedule, schedule_args: a class of `torch.optim.lr_scheduler`, or None; or "warmup_cosine". The argument
            "epochs" stands for the number of epochs, whatever it is changed to, "steps" for that of all batches.
        schedule_step: "epoch" or "batch", after which the schedule moves on.
        warmup: epochs in which the rate of "warmup_cosine" rises to `lr` in equal steps.
        patience: epochs without a better validation accuracy after which training ends; 0: it never does.
        augmentation: a key of `augmentation.AUGMENTATIONS`.
        sampling: "balanced" draws every class equally often, each image with weight 1/(images of its class).
        loss: of a segmentation, a key of `losses.LOSSES`; classification has one only.
        label_smoothing: share of a target that is spread over all classes.
        class_weights: each image's loss is weighted by total / (classes · images of its class).
        unfreeze: which layers of a backbone are trained, see `training/optimisation.py`; freeze_bn: all its batch-norm
            statistics are kept.
        backbone_lr_mult: the backbone's learning rate as a share of the head's (discriminative learning rates).
        head_from: "probe": the head starts as a linear probe, see `evaluation/probe.py`; "": with random weights.
        head_l2: Keras's L2 on the weights of the head's hidden layers.
        stages: changes to this recipe for each stage of a training in stages; the epochs of a stage are its share of
            `epochs`. `stage`: the name of one of them.
        tta: key of `augmentation.AUGMENTATIONS` that `predict` draws from at test time, "" where nothing is said;
            tta_draws: how often, besides the image as it is.
        balance: of several losses, a key of `losses.BALANCES`; balance_lr: the rate of weights that it learns.
        model_args: what the model is built with besides its channels.
        accumulate: into how many parts a batch is divided whose gradients are added up before a step (gradient
            accumulation): the memory of a part, the step of the whole batch. Exact but for rounding where a loss is a
            mean over images and the model has no batch norm.
        select: which epoch's weights are kept: "last", or "best" by validation accuracy. Never by the test set.
        val_fraction: share of the training set that is held out for validation, cut by group.
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
    unfreeze: str | float = "all"
    freeze_bn: bool = False
    backbone_lr_mult: float = 1.0
    head_from: str = ""
    head_l2: float = 0.0
    stages: tuple[Mapping[str, object], ...] = ()
    stage: str = ""
    tta: str = ""
    tta_draws: int = 4
    model_args: Mapping[str, int | bool | str] = field(default_factory=dict)
    select: str = "last"
    val_fraction: float = 0.1
    accumulate: int = 1

    def __post_init__(self):
        if self.epochs < 1:
            raise DataError(f"{self.epochs} epochs: at least one is wanted, or 0 as a chapter's parameter for its own")

    def in_stages(self) -> list["Recipe"]:
        """This recipe itself, or a recipe for each of its stages, in order."""
        planned = sum(stage["epochs"] for stage in self.stages)
        return [self._of_stage(stage, self.epochs / planned) for stage in self.stages] or [self]

    def _of_stage(self, stage: Mapping[str, object], share: float) -> "Recipe":
        epochs = max(1, round(share * stage["epochs"]))
        warmup = min(round(share * stage.get("warmup", 0)), epochs - 1)
        return replace(self, stages=(), **(dict(stage) | {"epochs": epochs, "warmup": warmup}))
