"""`Recipe`: every value of how a model is trained, as data.

A recipe knows neither models nor data and loads no network; `training/loop.py` carries it out. One file a source:
`s0.py` to `s4.py`, `ours.py`. What the sources reported is in `published.csv`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from datasets.catalog import DataError

ANY_CLASSIFIER = "any classifier"  # in a table of recipes: for every classifier without a line of its own


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, augmentation and stopping of one training."""

    name: str
    source: str  # where the values come from
    epochs: int
    batch_size: int = 64
    optimizer: str = "Adam"  # a class of `torch.optim`
    lr: float = 1e-4
    weight_decay: float = 0.0
    # A class of `torch.optim.lr_scheduler`, or None; or "warmup_cosine". The argument "epochs" stands for the number of
    # epochs, whatever it is changed to, "steps" for that of all batches.
    schedule: str | None = None
    schedule_args: Mapping[str, float | str] = field(default_factory=dict)
    schedule_step: str = "epoch"  # or "batch", after which the schedule moves on
    warmup: int = 0  # epochs in which the rate of "warmup_cosine" rises to `lr` in equal steps
    patience: int = 0  # epochs without a better validation accuracy after which training ends; 0: it never does
    augmentation: str = "none"  # a key of `augmentation.AUGMENTATIONS`
    sampling: str = "shuffled"  # "balanced": every class (of a joined set: of every source) is drawn equally often
    loss: str = ""  # of a segmentation, a key of `losses.LOSSES`; classification has one only
    label_smoothing: float = 0.0  # share of a target that is spread over all classes
    class_weights: bool = False  # each image's loss is weighted by total / (classes · images of its class)
    balance: str = ""  # of several losses, a key of `losses.BALANCES`
    balance_lr: float = 0.0  # the rate of weights that it learns
    unfreeze: str | float = "all"  # which layers of a backbone are trained, see `training/optimisation.py`
    freeze_bn: bool = False  # all batch-norm statistics of a backbone are kept
    backbone_lr_mult: float = 1.0  # the backbone's learning rate as a share of the head's (discriminative rates)
    head_from: str = ""  # "probe": the head starts as a linear probe, see `evaluation/baselines.py`; "": random weights
    head_l2: float = 0.0  # Keras's L2 on the weights of the head's hidden layers
    stages: tuple[Mapping[str, object], ...] = ()  # changes for each stage; its epochs are its share of `epochs`
    stage: str = ""  # the name of one of them
    tta: str = ""  # key of `augmentation.AUGMENTATIONS` that `predict` draws from at test time, "" for none
    tta_draws: int = 4  # how often, besides the image as it is
    model_args: Mapping[str, int | bool | str] = field(default_factory=dict)  # besides the channels
    # Which epoch's weights are kept: the "last", the "best" by validation accuracy, or that of "least loss" there.
    select: str = "last"
    val_fraction: float = 0.1  # share of the training set that is held out for validation; 0: none, all is trained on
    val_cut: str = "group"  # how it is cut; "random" or "first": image by image, see `datasets/splitting.py`

    def __post_init__(self):
        if self.epochs < 1:
            raise DataError(f"{self.epochs} epochs: at least one is wanted, or 0 as a chapter's parameter for its own")

    def in_stages(self) -> list["Recipe"]:
        """This recipe itself, or a recipe for each of its stages, in order."""
        share, found = self.epochs / max(1, sum(stage["epochs"] for stage in self.stages)), []
        for stage in self.stages:
            epochs = max(1, round(share * stage["epochs"]))
            warmup = min(round(share * stage.get("warmup", 0)), epochs - 1)
            found.append(replace(self, stages=(), **(dict(stage) | {"epochs": epochs, "warmup": warmup})))
        return found or [self]


NOTHING_FROZEN = {"unfreeze": "all", "backbone_lr_mult": 1.0}
# What a network without a backbone takes of a recipe for fine-tuning is everything else.
FROM_SCRATCH = NOTHING_FROZEN | {"freeze_bn": False, "head_from": "", "head_l2": 0.0, "stages": (), "model_args": {}}


def variants(
    base: Mapping[str, Recipe], title: str, changes: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, Recipe]]:
    """Name → model → its recipe of `base` under this name, with the changes of its table; its source says so."""
    found = {}
    for name, changed in changes.items():
        fields = changed | changed.get("model_args", {})
        listed = ", ".join(f"{field} {value}" for field, value in fields.items() if field != "model_args")
        values = {"name": name, "source": f"{title}, with {listed}", **changed}
        found[name] = {model: replace(recipe, **values) for model, recipe in base.items()}
    return found
