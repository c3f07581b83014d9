"""Heads of a backbone, from its features to logits, by the name that recipes use.

Each is built with `channels`, of the features, and `num_classes`, the number of logits. Shape of all: input
B × channels × h × w, output B × num_classes (logits). Next: `backbones.py`, which joins backbone and head.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


def average(x: Tensor) -> Tensor:
    """B × channels × h × w → B × channels: average over all places."""
    return x.mean((2, 3))


def average_and_maximum(x: Tensor) -> Tensor:
    """B × channels × h × w → B × 2·channels: average and maximum over all places, side by side."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


class Head(nn.Sequential):
    """`pool` makes a vector of the features; `layers`, by name and in order, make logits of it."""

    def __init__(self, pool: Callable[[Tensor], Tensor], **layers: nn.Module):
        super().__init__(OrderedDict(layers))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pool(x))


def linear(channels: int, num_classes: int) -> Head:
    """Average → one linear layer."""
    return Head(average, out=nn.Linear(channels, num_classes))


def average_max(channels: int, num_classes: int) -> Head:
    """Average and maximum, standardised by batch → one linear layer."""
    norm = nn.BatchNorm1d(2 * channels, affine=False)
    return Head(average_and_maximum, norm=norm, out=nn.Linear(2 * channels, num_classes))


class Standardised(Head):
    """Average and maximum, less `mean` and divided by `scale` → one linear layer.

    `mean` and `scale` are no parameters: they are those of a linear probe, from whose weights the head can start, and
    stay as they are (before that 0 and 1).
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__(average_and_maximum, out=nn.Linear(2 * channels, num_classes))
        self.register_buffer("mean", torch.zeros(2 * channels))
        self.register_buffer("scale", torch.ones(2 * channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.pool(x) - self.mean) / self.scale)


def dual(channels: int, num_classes: int) -> Head:
    """S3's: average and maximum; 1,450,244 parameters on 1280 channels, 4 classes."""
    layers = nn.Sequential(
        *(nn.BatchNorm1d(2 * channels), nn.Dropout(0.4), nn.Linear(2 * channels, 512), nn.SiLU()),
        *(nn.BatchNorm1d(512), nn.Dropout(0.4), nn.Linear(512, 256), nn.SiLU()),
        *(nn.BatchNorm1d(256), nn.Dropout(0.3), nn.Linear(256, num_classes)),
    )
    return Head(average_and_maximum, layers=layers)


def two_layers(channels: int, num_classes: int) -> Head:
    """S4's: average."""
    layers = nn.Sequential(
        *(nn.Dropout(0.2), nn.Linear(channels, 512), nn.ReLU(inplace=True)),
        *(nn.Linear(512, 256), nn.ReLU(inplace=True), nn.Linear(256, num_classes)),
    )
    return Head(average, layers=layers)


HEADS = {
    "linear": linear,
    "hidden": linear,  # behind the hidden layers of the ImageNet classifier, see `backbones.py`
    "average-max": average_max,
    "standardised": Standardised,
    "dual": dual,
    "two-layers": two_layers,
}
