"""Tasks say what is learned: each turns a batch into inputs, targets, a loss and metrics, unknown to the loop."""

from operator import itemgetter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.wrappers import LambdaInputTransformer

from datasets.catalog import lookup
from datasets.store.images import scaled
from utils.training.augmentation import AUGMENTATIONS
from utils.training.balancing import BALANCES
from utils.training.decision import decide, joint_probabilities
from utils.training.losses import LOSSES
from utils.training.metrics import LogitDice, MeanLoss, RawLosses


class FromImage(nn.Module):
    """Base of tasks that a network answers from the image alone; its target is `batch["label"]`.

    Args:
        in_channels: channels that the model takes; a grey image is repeated to fill them.
        augmentation: key of `AUGMENTATIONS`, used in training only.

    Raises:
        UnknownName: another augmentation.
    """

    def __init__(self, in_channels: int, augmentation: str):
        super().__init__()
        self.in_channels = in_channels
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()

    def inputs(self, batch: dict[str, Tensor], training: bool = False) -> Tensor:
        """`batch["image"]` of 8 or 16 bits, B×C×S×S → float B×in_channels×S×S in [0, 1], augmented when training."""
        x = scaled(batch["image"])
        if training and self.augment is not None:
            x = self.augment(x)
        return x.expand(-1, self.in_channels, -1, -1)

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """Labels, int64 B, or findings, float B×K of 0 and 1."""
        return batch["label"]

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Augmented inputs and their targets, for training."""
        return self.inputs(batch, training=True), self.targets(batch)


class Classification(FromImage):
    """One label an image, cross-entropy.

    Args:
        num_classes: number of labels.
        in_channels: channels that the model takes; a grey image is repeated to fill them.
        augmentation: key of `AUGMENTATIONS`, used in training only. "s2" is S2's flip and ±10°, and a jitter of .2
            that is stronger than S2's (`augmentation.py`); saturation and hue a grey image does not have.
        label_smoothing: share of a target that is spread over all classes.
        class_weights: what the loss of an image of each class counts, K; without them all count 1.
    """

    monitor = "accuracy"

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        augmentation: str = "none",
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ):
        super().__init__(in_channels, augmentation)
        self.num_classes = num_classes
        weights = torch.ones(num_classes) if class_weights is None else class_weights
        self.register_buffer("class_weights", weights, persistent=False)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean weighted cross-entropy of logits B×K, a scalar; weighted by image and divided by B, as Keras does."""
        return (self.criterion(outputs, targets) * self.class_weights[targets]).mean()

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass; `update(logits, labels)`, then `compute()`."""
        # Every process sees the gathered outputs, so the metrics must not gather them again; torchmetrics' own checks
        # of labels would wait for the GPU at every batch.
        same = {"num_classes": self.num_classes, "sync_on_compute": False, "validate_args": False}
        return MetricCollection(
            {
                "loss": MeanLoss(self.loss),
                "accuracy": MulticlassAccuracy(average="micro", **same),
                "f1": MulticlassF1Score(average="macro", **same),
            }
        )

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits B×K → probabilities B×K."""
        return outputs.float().softmax(dim=1)


class Segmentation(nn.Module):
    """One or more masks an image, which may overlap; a sigmoid for each.

    Args:
        mask_channels: number of masks.
        loss: key of `LOSSES`.
        augmentation: key of `AUGMENTATIONS`, used in training only; masks are moved with their image.
    """

    monitor = "dice"

    def __init__(self, mask_channels: int, loss: str = "bce", augmentation: str = "none"):
        super().__init__()
        self.mask_channels = mask_channels
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()
        self.criterion = lookup(LOSSES, loss, "loss")()

    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        """`batch["image"]` B×C×S×S of any type → float in [0, 1].

        S2's scaling: each slice and channel by its own minimum and maximum. A constant slice becomes 0.
        """
        x = batch["image"].float()
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = (x - low) / (high - low).clamp_min(1e-6)
        return x.contiguous(memory_format=torch.channels_last)  # depthwise convolutions: twice as fast on a CPU

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """`batch["mask"]`, uint8 0/1 B×M×S×S."""
        return batch["mask"]

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Inputs and targets for training, both moved alike."""
        x, y = self.inputs(batch), self.targets(batch)
        if self.augment is None:
            return x, y
        x, moved = self.augment(x, y.float(), data_keys=["input", "mask"])
        return x.contiguous(memory_format=torch.channels_last), (moved > 0.5).to(y.dtype)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits B×M×S×S, a scalar."""
        return self.criterion(outputs, targets.float())

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass; `update(logits, masks)`, then `compute()`."""
        dice = LogitDice(
            self.mask_channels,
            average="macro",
            aggregation_level="global",
            input_format="one-hot",
            sync_on_compute=False,
        )
        return MetricCollection({"loss": MeanLoss(self.loss), "dice": dice})

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits → probabilities, B×M×S×S."""
        return outputs.float().sigmoid()


class MultiTask(nn.Module):
    """S0's three tasks of one network: reconstruct the image, detect a tumour, and name its type.

    Args:
        num_classes: number of labels; healthy: index of the one without a tumour.
        balance: key of `balancing.BALANCES`, how reconstruction and classification become one loss.
        augmentation: key of `AUGMENTATIONS`, used in training only; the augmented image is reconstructed.
        reconstruct, hierarchical: those of the `MultiTaskUNet`.
    """

    monitor = "accuracy"

    def __init__(
        self,
        num_classes: int,
        healthy: int,
        balance: str = "ema",
        augmentation: str = "none",
        reconstruct: bool = True,
        hierarchical: bool = True,
    ):
        super().__init__()
        self.num_classes, self.healthy = num_classes, healthy
        self.reconstruct, self.hierarchical = reconstruct, hierarchical
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()
        names = ["reconstruction"] * reconstruct + ["classification"]
        self.balance = lookup(BALANCES, balance, "balance")(names)

    def inputs(self, batch: dict[str, Tensor], training: bool = False) -> Tensor:
        """`batch["image"]` of 8 or 16 bits, B×C×S×S → float in [0, 1], augmented when training."""
        x = scaled(batch["image"])
        if training and self.augment is not None:
            x = self.augment(x)
        return x.contiguous(memory_format=torch.channels_last)

    def targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`label` int64 B, and the `image` to reconstruct, as `inputs` gives it."""
        return {"label": batch["label"], "image": self.inputs(batch)}

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented inputs and their targets, for training."""
        x = self.inputs(batch, training=True)
        return x, {"label": batch["label"], "image": x}

    def per_image(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Every loss of every image, B, and whether it counts, B of 0 and 1: a healthy image has no tumour type."""
        label, found = targets["label"], {}
        every = torch.ones_like(label, dtype=torch.float32)
        if self.reconstruct:
            found["reconstruction"] = ((outputs["reconstruction"] - targets["image"]) ** 2).mean((1, 2, 3)), every
        if not self.hierarchical:
            found["classes"] = F.cross_entropy(outputs["classes"], label, reduction="none"), every
            return found
        tumour = (label != self.healthy).float()
        found["tumour"] = F.binary_cross_entropy_with_logits(outputs["tumour"], tumour, reduction="none"), every
        # Types are numbered without the healthy class; a healthy image gets an arbitrary one, which does not count.
        kind = (label - (label > self.healthy).long()).clamp_max(outputs["subtype"].shape[1] - 1)
        found["subtype"] = F.cross_entropy(outputs["subtype"], kind, reduction="none"), tumour
        return found

    def parts(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses that are balanced: `reconstruction`, and `classification`, the sum of the heads' losses.

        Each is a mean over the images that count; without any it is 0, with a gradient of 0.
        """
        means = {
            name: (loss * counts).sum() / counts.sum().clamp_min(1)
            for name, (loss, counts) in self.per_image(outputs, targets).items()
        }
        reconstruction = {"reconstruction": means.pop("reconstruction")} if self.reconstruct else {}
        return reconstruction | {"classification": sum(means.values())}

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """The balanced sum, a scalar."""
        return self.balance(self.parts(outputs, targets))

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass: every raw loss and their sum `loss`, accuracy and F1 of S0's decision."""
        same = {"num_classes": self.num_classes, "sync_on_compute": False, "validate_args": False}
        decided = {
            "accuracy": MulticlassAccuracy(average="micro", **same),
            "f1": MulticlassF1Score(average="macro", **same),
        }
        decided = {
            name: LambdaInputTransformer(metric, self._decision, itemgetter("label"))
            for name, metric in decided.items()
        }
        return MetricCollection({"raw": RawLosses(self.per_image)} | decided, compute_groups=False)

    def _decision(self, outputs: dict[str, Tensor]) -> Tensor:
        return self.decide(self.probabilities(outputs))

    def probabilities(self, outputs: dict[str, Tensor]) -> Tensor:
        """Probabilities B×K of the classes, see `decision.joint_probabilities`."""
        return joint_probabilities(outputs, self.healthy)

    def decide(self, probabilities: Tensor) -> Tensor:
        """Class indices N of probabilities N×K: S0's rule, or the likeliest class where there is one head."""
        return decide(probabilities, self.healthy) if self.hierarchical else probabilities.argmax(1)
