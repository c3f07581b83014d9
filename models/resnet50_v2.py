"""ResNet50-v2 up to its third stage: residual blocks that normalise before they convolve.

Its parts have the names and the order of timm's `resnetv2_50`, so that weight files fit; timm itself takes seconds to
import, for which an answer of a saved model need not wait.
"""

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS, WIDTHS = (3, 4, 6), (256, 512, 1024)  # of each stage


class NormReLU(nn.BatchNorm2d):
    """Batch norm → ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Bottleneck(nn.Module):
    """x → x + 1×1 → 3×3 → 1×1 convolution, each behind a norm and a ReLU; `stride` is that of the middle one.

    Where `x` has another shape than the result, it is replaced by a 1×1 convolution of its normalised self.
    """

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        if channels != width:
            self.downsample = nn.Sequential()
            self.downsample.conv = nn.Conv2d(channels, width, 1, stride, bias=False)
        self.norm1, self.conv1 = NormReLU(channels), nn.Conv2d(channels, width // 4, 1, bias=False)
        self.norm2, self.conv2 = NormReLU(width // 4), nn.Conv2d(width // 4, width // 4, 3, stride, 1, bias=False)
        self.norm3, self.conv3 = NormReLU(width // 4), nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.norm1(x)
        shortcut = self.downsample(normalised) if hasattr(self, "downsample") else x
        return shortcut + self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(normalised)))))


class ResNet50V2(nn.Module):
    """The features of a ResNet50-v2's third stage, 8,539,840 parameters.

    Source: He, Zhang, Ren & Sun 2016, arXiv:1603.05027. The map of the third stage has four times as many places as
    that of the fourth, which is left out. As in Apache MXNet's Gluon the stem has a norm, which timm's has not.

    Shape:
        input B×3×S×S, normalised; output of `forward_features` B×1024×S/16×S/16.
    """

    num_features = WIDTHS[-1]

    def __init__(self):
        super().__init__()
        self.stem, self.stages = nn.Sequential(), nn.Sequential()
        self.stem.conv, self.stem.norm = nn.Conv2d(3, 64, 7, 2, 3, bias=False), NormReLU(64)
        self.stem.pool = nn.MaxPool2d(3, 2, 1)  # 64 × S/4
        for k, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            channels = (64, *WIDTHS)[k]  # of the stage before; all but the first halve height and width
            first = Bottleneck(channels, width, stride=2 if k else 1)
            stage = nn.Sequential()
            stage.blocks = nn.Sequential(first, *(Bottleneck(width, width, 1) for _ in range(blocks - 1)))
            self.stages.append(stage)
        self.norm = NormReLU(self.num_features)
        for name, weight in self.named_parameters():  # as timm does; each block begins as the identity
            if name.endswith("conv3.weight"):
                nn.init.zeros_(weight)
            elif weight.ndim == 4:
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(self.stages(self.stem(x)))
