"""Heads of a backbone, from its features to logits: one class a head, by the name that recipes use.

Each is built with `channels`, of the features, and `num_classes`, the number of logits. Shape of all: input
B × channels × h × w, output B × num_classes (logits). Next: `backbones.py`, which joins backbone and head.
"""

import torch
from torch import Tensor, nn


def average_and_maximum(x: Tensor) -> Tensor:
    """B × channels × h × w → B × 2·channels: average and maximum over all places, side by side."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


class Linear(nn.Module):
    """Average over all places → one linear layer."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.out = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.mean((2, 3)))


class AverageMax(nn.Module):
    """Average and maximum, standardised by batch → one linear layer."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * channels, affine=False)
        self.out = nn.Linear(2 * channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(average_and_maximum(x)))


class Standardised(nn.Module):
    """Average and maximum, less `mean` and divided by `scale` → one linear layer.

    `mean` and `scale` are no parameters: they are those of a linear probe, from whose weights the head can start, and
    stay as they are (before that 0 and 1).
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * channels))
        self.register_buffer("scale", torch.ones(2 * channels))
        self.out = nn.Linear(2 * channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((average_and_maximum(x) - self.mean) / self.scale)


class DualPooling(nn.Module):
    """S3's: average and maximum; 1,450,244 parameters on 1280 channels, 4 classes.

    Batch norm → dropout .4 → 512, swish → batch norm → dropout .4 → 256, swish → batch norm → dropout .3 → logits.
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm1d(2 * channels), nn.Dropout(0.4), nn.Linear(2 * channels, 512), nn.SiLU()),
            *(nn.BatchNorm1d(512), nn.Dropout(0.4), nn.Linear(512, 256), nn.SiLU()),
            *(nn.BatchNorm1d(256), nn.Dropout(0.3), nn.Linear(256, num_classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(average_and_maximum(x))


class TwoLayers(nn.Module):
    """S4's: average → dropout .2 → 512, ReLU → 256, ReLU → logits."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Dropout(0.2), nn.Linear(channels, 512), nn.ReLU(inplace=True)),
            *(nn.Linear(512, 256), nn.ReLU(inplace=True), nn.Linear(256, num_classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.mean((2, 3)))


HEADS = {
    "linear": Linear,
    "hidden": Linear,  # behind the hidden layers of the ImageNet classifier, see `backbones.py`
    "average-max": AverageMax,
    "standardised": Standardised,
    "dual": DualPooling,
    "two-layers": TwoLayers,
}
