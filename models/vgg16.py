"""VGG16 with S2's head: configuration D of the paper and three wide linear layers. Next: `vit.py`."""

import torch
from torch import nn

from models.checks import check_arguments, check_batch

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width and number of convolutions, each stage halved


class VGG16(nn.Module):
    """Thirteen convolutions and three linear layers; 65,070,916 parameters at 3×128×128 and 4 classes.

    Source: Simonyan & Zisserman 2015 (arXiv:1409.1556), no batch norm; head 8192 → 4096 → 4096 → 4 from S2.
    Arguments and shapes as of `CustomCNN`.
    """

    def __init__(self, *, num_classes: int = 4, in_channels: int = 3, image_size: int = 128, dropout: float = 0.5):
        super().__init__()
        check_arguments(num_classes, in_channels, image_size)
        self.in_channels, self.image_size = in_channels, image_size
        layers, channels = [], in_channels
        for width, depth in STAGES:
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)  # 512 × 4 × 4 at 128 pixels
        side = image_size // 2 ** len(STAGES)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # 8192 at 128 pixels
            nn.Linear(512 * side * side, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        # Thirteen layers without batch norm: with torch's default weights the signal dies before the head
        # and Adam at 1e-4 stays at chance. He et al. 2015 keeps its variance.
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_batch(x, self.in_channels, self.image_size)
        return self.classifier(self.features(x))
