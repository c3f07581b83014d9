"""Losses of segmentation by the name that recipes use, and weights of classes. Several losses: `balancing.py`."""

from collections.abc import Callable

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from datasets.catalog import DataError


class DiceAndBCE(nn.Module):
    """Sum of both: cross-entropy for every pixel, Dice over the batch for masks that are mostly background."""

    def __init__(self):
        super().__init__()
        self.dice, self.bce = DiceLoss(sigmoid=True, batch=True), nn.BCEWithLogitsLoss()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.dice(logits, targets) + self.bce(logits, targets)


LOSSES: dict[str, Callable[[], nn.Module]] = {"bce": nn.BCEWithLogitsLoss, "dice+bce": DiceAndBCE}


def class_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """S3's: total / (classes · images of the class), float32 K, so that each class counts alike."""
    counts = torch.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(f"class weights: class {int(counts.argmin())} has no image in the training set")
    return len(labels) / (num_classes * counts.float())
