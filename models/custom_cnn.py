"""CustomCNN, S2's own network: an AlexNet-like stack made shorter, with batch norm and Mish. Next: `alexnet.py`."""

import torch
from torch import nn

from models.checks import check_arguments, check_batch


def conv_block(in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0):
    """Convolution → batch norm → Mish."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.Mish())


def last_pool(image_size: int) -> tuple[nn.Module, int]:
    """What pools the features of CustomCNN and AlexNet, and the side of what is left."""
    side = (((image_size - 9) // 4 + 1) // 2 - 4) // 2
    # A 64-pixel input leaves one position here; there is nothing left to pool.
    return (nn.MaxPool2d(2), side // 2) if side > 1 else (nn.Identity(), 1)


class CustomCNN(nn.Module):
    """Four convolutions and three linear layers; 3,001,156 parameters at 3×128×128 and 4 classes.

    Source: S2's layer list. Mish: Misra 2019 (arXiv:1908.08681). Batch norm: Ioffe & Szegedy 2015.

    Args:
        num_classes: number of logits.
        in_channels: 1 to 4.
        image_size: side of the square input, at least 64. The first linear layer's width follows from it.

    Shape:
        input B × in_channels × image_size × image_size, output B × num_classes (logits).
    """

    def __init__(self, *, num_classes: int = 4, in_channels: int = 3, image_size: int = 128):
        super().__init__()
        check_arguments(num_classes, in_channels, image_size)
        self.in_channels, self.image_size = in_channels, image_size
        # Shapes in the comments: channels × side at 128 pixels.
        self.features = nn.Sequential(
            conv_block(in_channels, 96, 9, stride=4),  # 96 × 30
            nn.MaxPool2d(2),  # 96 × 15
            conv_block(96, 256, 5),  # 256 × 11
            nn.MaxPool2d(2),  # 256 × 5
            conv_block(256, 384, 3, padding=1),  # 384 × 5
            conv_block(384, 256, 3, padding=1),  # 256 × 5
        )
        self.pool, side = last_pool(image_size)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # 1024 at 128 pixels
            nn.Linear(256 * side * side, 512),
            nn.Mish(),
            nn.Dropout(0.4),
            nn.Linear(512, 128),
            nn.Mish(),
            nn.Dropout(0.4),
            nn.Linear(128, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_batch(x, self.in_channels, self.image_size)
        return self.classifier(self.pool(self.features(x)))
