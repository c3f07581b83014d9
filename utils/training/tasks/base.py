"""`Task`, the base of what can be learned."""

from collections.abc import Sequence
from operator import itemgetter

import torch
from torch import Tensor, nn

from datasets.catalog import DataError, lookup
from datasets.labels import classes_of
from datasets.store.images import scaled
from datasets.store.preprocess import UNIT
from utils.training.losses import BALANCES

Batch = dict[str, Tensor]


class Task(nn.Module):
    """Base of all tasks; what stands here is right for one label an image.

    A task also has `loss(outputs, targets)`, a scalar, and `metrics()`, fresh torchmetrics for one pass, with `loss`
    and its `monitor` among them. Outputs and targets are tensors or tensors by name.

    Attributes:
        monitor: the validation metric by which an epoch is judged, larger is better; reported: metrics of the test set
            on a model's card, the main one first.
        channels: sequences of a volume that are read, "grey" or "all"; masks: whether masks are read where there are
            some; scaling: that of `inputs`, as a card names it.
        augment: of `AUGMENTATIONS`, used in training only; in_channels: those that the model takes, which a grey image
            is repeated to fill; -1: as many as it has.
    """

    monitor, reported = "accuracy", ("accuracy", "macro_f1", "macro_auc")
    channels, masks, scaling = "grey", False, UNIT

    def __init__(self, augmentation: str, in_channels: int = -1):
        super().__init__()
        self.in_channels, self.augment = in_channels, None
        if augmentation != "none":
            from utils.training.augmentation import AUGMENTATIONS  # with kornia, for which an answer need not wait

            self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()

    def inputs(self, batch: Batch, training: bool = False) -> Tensor:
        """`batch["image"]` of 8 or 16 bits, B×C×S×S → float B×in_channels×S×S in [0, 1], augmented when training; in
        channels_last, in which a CPU convolves faster."""
        x = scaled(batch["image"])
        if training and self.augment is not None:
            x = self.augment(x)
        return x.expand(-1, self.in_channels, -1, -1).contiguous(memory_format=torch.channels_last)

    def targets(self, batch: Batch) -> Tensor | Batch:
        """Labels, int64 B, or findings, float B×K of 0 and 1."""
        return batch["label"]

    def example(self, batch: Batch) -> tuple[Tensor, Tensor | Batch]:
        """Augmented inputs and their targets, for training."""
        return self.inputs(batch, training=True), self.targets(batch)

    def moved(self, x: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and their masks, augmented alike."""
        if self.augment is None:
            return x, masks
        x, moved = self.augment(x, masks.float(), data_keys=["input", "mask"])
        return x.contiguous(memory_format=torch.channels_last), (moved > 0.5).to(masks.dtype)

    def probabilities(self, outputs) -> Tensor:
        """Probabilities of the classes, B×K."""
        return outputs.float().softmax(dim=1)

    def scores(self, outputs) -> Tensor:
        """What speaks for each class, B×K, for saliency maps: the logits."""
        return outputs

    def decide(self, probabilities: Tensor) -> Tensor:
        """Class indices N of probabilities N×K: the likeliest."""
        return probabilities.argmax(1)

    @classmethod
    def require(cls, dataset: str, target: str) -> None:
        """Raise `DataError` where a data set cannot be used for the task; of findings one alone is there or not."""
        if len(classes := classes_of(dataset, target)) < 2 and target != "findings":
            raise DataError(
                f"'{dataset}' holds one class, '{classes[0]}': there is nothing to tell apart. "
                "notebooks/5_segmentation.ipynb finds tumours where there are masks"
            )

    @classmethod
    def evaluate(cls, table, names: Sequence[str], resamples: int = 1000, fold=None) -> dict:
        """All metrics, with 95 % intervals, of a table of predictions of the classes, findings or masks `names`; `fold`
        is that of each row, where folds are joined: an AUC ranks within folds only."""
        from utils.evaluation.classification import evaluate  # here, since evaluation is built on this room

        return evaluate(table, names, resamples, fold=fold)

    @classmethod
    def to_card(cls, run, model: nn.Module) -> dict:
        """`arguments` of a model of `run`, besides those of its recipe, and the names of its `classes` or `masks`."""
        classes = list(classes_of(run.dataset, run.target))
        channels = getattr(model, "in_channels", 3)  # chapters build every classifier for three
        arguments = {"num_classes": len(classes), "in_channels": channels, "image_size": run.image_size}
        return {"arguments": arguments, "classes": classes}

    @classmethod
    def from_card(cls, card: dict) -> "Task":
        """The task of a saved model, for prediction."""
        return cls(len(card["classes"]), card["arguments"]["in_channels"])


class SeveralLosses(Task):
    """Base of tasks with several losses, which a balance, a key of `BALANCES`, makes one; `per_image(outputs, targets)`
    has each by name: that of every image, and whether it counts, both B."""

    def __init__(self, num_classes: int, augmentation: str, balance: str, losses: Sequence[str]):
        super().__init__(augmentation)
        self.num_classes, self.balance = num_classes, lookup(BALANCES, balance, "balance")(losses)

    def parts(self, outputs: Batch, targets: Batch) -> Batch:
        """The losses that are balanced, means over the images that count; without any 0, and so is its gradient."""
        each = self.per_image(outputs, targets).items()
        return {name: (loss * counts).sum() / counts.sum().clamp_min(1) for name, (loss, counts) in each}

    def loss(self, outputs: Batch, targets: Batch) -> Tensor:
        return self.balance(self.parts(outputs, targets))

    def metrics(self) -> nn.ModuleDict:
        """Every raw loss and their sum `loss`; accuracy and F1 of the class."""
        from torchmetrics import MetricCollection
        from torchmetrics.wrappers import LambdaInputTransformer

        from utils.training.metrics import PerImage, class_metrics

        turns = (lambda outputs: self.decide(self.probabilities(outputs))), itemgetter("label")
        named = {name: LambdaInputTransformer(m, *turns) for name, m in class_metrics(self.num_classes).items()}
        return MetricCollection({"raw": PerImage(self.per_image, total="loss")} | named, compute_groups=False)
