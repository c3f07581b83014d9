"""One label an image, cross-entropy."""

import torch
from torch import Tensor, nn

from utils.training.tasks.base import Task


class Classification(Task):
    """`label_smoothing` is the share of a target that is spread over all classes; `class_weights`, K, are what the loss
    of an image of each class counts."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        augmentation: str = "none",
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ):
        super().__init__(augmentation, in_channels)
        self.num_classes = num_classes
        weights = torch.ones(num_classes) if class_weights is None else class_weights
        self.register_buffer("class_weights", weights, persistent=False)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean weighted cross-entropy of logits B×K; weighted by image and divided by B, as Keras does."""
        return (self.criterion(outputs, targets) * self.class_weights[targets]).mean()

    def metrics(self) -> nn.ModuleDict:
        from torchmetrics import MetricCollection

        from utils.training.metrics import MeanLoss, class_metrics

        return MetricCollection({"loss": MeanLoss(self.loss)} | class_metrics(self.num_classes))


class Transfer(Classification):
    """The same by a pretrained backbone, reported as in S1."""

    reported = ("accuracy", "macro_f2", "macro_auc")
