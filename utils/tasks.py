"""What is learned: a task turns a batch into model input and targets, and knows its loss and metrics.

`training.fit` asks a task and knows none of it. One class a task; so far `Classification`.
"""

import kornia.augmentation as K
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

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
