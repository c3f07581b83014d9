"""EfficientNet-Lite0, the backbone of the detector, as pure PyTorch: an answer then need not wait for timm.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946; Lite
leaves out squeeze-and-excitation and has ReLU6, so that it computes well in few bits. The names of its parameters are
those of timm's `tf_efficientnet_lite0`, whose weights it takes, and it computes what that does.

    image  3 × 224 × 224
      │  stem: 3×3, stride 2                                   32 × 112 × 112
      │  depthwise 3×3, then 1×1                               16 × 112 × 112
      │  6 stages of 15 inverted residuals, see STAGES        320 ×   7 ×   7
      │  head: 1×1                                           1280 ×   7 ×   7
"""

import torch.nn.functional as F
from torch import Tensor, nn

# Blocks, side of the depthwise kernel, stride of the first block, channels out; each widens six times.
STAGES = ((2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
MEAN = STD = (0.5, 0.5, 0.5)  # of R, G and B in its training


class SameConv(nn.Conv2d):
    """A convolution without bias whose output is input / stride, rounded up: as TensorFlow does, what is missing is
    padded below and to the right first."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inside, outside, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        bottom, right = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        if bottom or right:
            x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return super().forward(x)


class Norm(nn.BatchNorm2d):
    """Batch norm with TensorFlow's ε."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-3)


class NormReLU6(Norm):
    """Batch norm → ReLU6."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(super().forward(x))


class Separable(nn.Module):
    """Depthwise 3×3, then 1×1: B × inside × H × W → B × outside × H × W."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv_dw, self.bn1 = SameConv(inside, inside, 3, groups=inside), NormReLU6(inside)
        self.conv_pw, self.bn2 = SameConv(inside, outside, 1), Norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class Inverted(nn.Module):
    """1×1 to six times the width, depthwise kernel, 1×1 to `outside`; the input is added where it has that shape."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int):
        super().__init__()
        wide = 6 * inside
        self.conv_pw, self.bn1 = SameConv(inside, wide, 1), NormReLU6(wide)
        self.conv_dw, self.bn2 = SameConv(wide, wide, kernel, stride, groups=wide), NormReLU6(wide)
        self.conv_pwl, self.bn3 = SameConv(wide, outside, 1), Norm(outside)
        self.added = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv_pw(x))
        y = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(y))))
        return x + y if self.added else y


class EfficientNetLite0(nn.Module):
    """The network without classifier, 3,371,008 parameters: B × 3 × H × W → B × 1280 × H/32 × W/32, rounded up."""

    num_features = 1280

    def __init__(self):
        super().__init__()
        self.conv_stem, self.bn1 = SameConv(3, 32, 3, stride=2), NormReLU6(32)
        blocks, inside = [nn.Sequential(Separable(32, 16))], 16
        for number, kernel, stride, outside in STAGES:
            first = Inverted(inside, outside, kernel, stride)
            blocks.append(nn.Sequential(first, *(Inverted(outside, outside, kernel, 1) for _ in range(number - 1))))
            inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn2 = SameConv(inside, self.num_features, 1), NormReLU6(self.num_features)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map."""
        return self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(x)))))
