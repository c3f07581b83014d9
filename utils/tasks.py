"""What is learned: a task turns a batch into model input and targets, and knows its loss and metrics.

`training.fit` asks a task and knows none of it. One class a task: `Classification`, `Segmentation`.
"""

from collections.abc import Callable

import kornia.augmentation as K
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.segmentation import DiceScore

from datasets.catalog import lookup

# kornia draws one transform an image for the whole batch at once: measured 5 to 8 times as fast as
# torchvision v2 image by image (batch of 64 at 128 pixels, 2 threads; benchmarks/training.py).
AUGMENTATIONS = {
    "none": lambda: None,
    "s2": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomRotation(10.0, p=1.0),
        K.RandomBrightness((0.8, 1.2), p=1.0),
        K.RandomContrast((0.8, 1.2), p=1.0),
        data_keys=["input"],
    ),
}


class Classification:
    """One label an image, cross-entropy.

    Args:
        num_classes: number of labels.
        in_channels: channels that the model takes; a grey image is repeated to fill them.
        augmentation: key of `AUGMENTATIONS`, used in training only. "s2" is S2's flip, ±10° and jitter .2;
            S2 also jittered saturation and hue, which a grey image does not have.
    """

    monitor = "accuracy"

    def __init__(self, num_classes: int, in_channels: int = 3, augmentation: str = "none"):
        self.num_classes, self.in_channels = num_classes, in_channels
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()
        self.criterion = nn.CrossEntropyLoss()

    def inputs(self, batch: dict[str, Tensor], training: bool = False) -> Tensor:
        """`batch["image"]` uint8 B×C×S×S → float B×in_channels×S×S in [0, 1], augmented when training."""
        x = batch["image"].float() / 255
        if training and self.augment is not None:
            x = self.augment(x)
        return x.expand(-1, self.in_channels, -1, -1)

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """Labels, int64 B."""
        return batch["label"]

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Augmented inputs and their targets, for training."""
        return self.inputs(batch, training=True), self.targets(batch)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits B×K, a scalar."""
        return self.criterion(outputs, targets)

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass; `update(logits, labels)`, then `compute()`."""
        # Every process sees the gathered outputs, so the metrics must not gather them again.
        same = {"num_classes": self.num_classes, "sync_on_compute": False}
        return MetricCollection(
            {"accuracy": MulticlassAccuracy(average="micro", **same), "f1": MulticlassF1Score(average="macro", **same)}
        )

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits B×K → probabilities B×K."""
        return outputs.float().softmax(dim=1)


class _DiceAndBCE(nn.Module):
    """Sum of both: cross-entropy for every pixel, Dice over the batch for masks that are mostly background."""

    def __init__(self):
        super().__init__()
        self.dice, self.bce = DiceLoss(sigmoid=True, batch=True), nn.BCEWithLogitsLoss()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.dice(logits, targets) + self.bce(logits, targets)


LOSSES: dict[str, Callable[[], nn.Module]] = {"bce": nn.BCEWithLogitsLoss, "dice+bce": _DiceAndBCE}


class _LogitDice(DiceScore):
    """Dice of all pixels of a pass together, from logits; the mean over the channels that occur."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        super().update((outputs > 0).int(), targets.int())


class Segmentation:
    """One or more masks an image, which may overlap; a sigmoid for each.

    Args:
        mask_channels: number of masks.
        loss: key of `LOSSES`.
        augmentation: key of `AUGMENTATIONS`, used in training only; masks are moved with their image.
    """

    monitor = "dice"

    def __init__(self, mask_channels: int, loss: str = "bce", augmentation: str = "none"):
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
        dice = _LogitDice(
            self.mask_channels,
            average="macro",
            aggregation_level="global",
            input_format="one-hot",
            sync_on_compute=False,
        )
        return MetricCollection({"dice": dice})

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits → probabilities, B×M×S×S."""
        return outputs.float().sigmoid()
