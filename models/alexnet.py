"""AlexNet at S2's widths: the 2012 layout for 128-pixel input, without batch norm or dropout. Next: `vgg16.py`."""

import torch
from torch import nn

from models.checks import check_arguments, check_batch
from models.custom_cnn import last_pool


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0):
    """Convolution → ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, padding), nn.ReLU())


class AlexNet(nn.Module):
    """Five convolutions and four linear layers; 4,589,316 parameters at 3×128×128 and 4 classes.

    Source: Krizhevsky, Sutskever & Hinton 2012; widths and the smaller head from S2. The first kernel (9, stride 4)
    is what S2's parameter count implies.
    Arguments and shapes as of `CustomCNN`.
    """

    def __init__(self, *, num_classes: int = 4, in_channels: int = 3, image_size: int = 128):
        super().__init__()
        check_arguments(num_classes, in_channels, image_size)
        self.in_channels, self.image_size = in_channels, image_size
        # Shapes in the comments: channels × side at 128 pixels.
        self.features = nn.Sequential(
            conv(in_channels, 96, 9, stride=4),  # 96 × 30
            nn.MaxPool2d(2),  # 96 × 15
            conv(96, 256, 5),  # 256 × 11
            nn.MaxPool2d(2),  # 256 × 5
            conv(256, 384, 3, padding=1),  # 384 × 5
            conv(384, 384, 3, padding=1),  # 384 × 5
            conv(384, 256, 3, padding=1),  # 256 × 5
        )
        self.pool, side = last_pool(image_size)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # 1024 at 128 pixels
            nn.Linear(256 * side * side, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Linear(128, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_batch(x, self.in_channels, self.image_size)
        return self.classifier(self.pool(self.features(x)))
