"""Losses of segmentation by the name that recipes use, and class weights. `balancing.py` combines several losses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from datasets.catalog import DataError


class DiceAndBCE(nn.Module):
    """Binary cross-entropy of every pixel plus the Dice loss over the batch, for masks that are mostly background.

    L = BCE + 1 − 2·Σ p·y / (Σ p + Σ y) of probabilities p and masks y, averaged over channels (Milletari et al. 2016,
    arXiv:1606.04797).
    """

    def __init__(self):
        from monai.losses import DiceLoss  # here, since MONAI's import takes seconds and this loss alone needs it

        super().__init__()
        self.dice, self.bce = DiceLoss(sigmoid=True, batch=True), nn.BCEWithLogitsLoss()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.dice(logits, targets) + self.bce(logits, targets)


LOSSES: dict[str, Callable[[], nn.Module]] = {"bce": nn.BCEWithLogitsLoss, "dice+bce": DiceAndBCE}


def class_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """S3's class weights, N / (K · N_c) for class c, float32 K, so that all classes count alike.

    Raises:
        DataError: a class without an image.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(f"class weights: class {int(counts.argmin())} has no image in the training set")
    return len(labels) / (num_classes * counts.float())
