"""MobileNetUNet: a U-Net whose encoder is MobileNetV2's first half, so that ImageNet weights fit. Not S2's.

S2's three start from random numbers (`classic_unet.py` and the next two). Where weights come from: `weights.py`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import Transfer, load_backbone
from models.checks import check_batch, check_sizes
from models.weights import Weights

BACKBONE = "MobileNetV2"


class Encoder(nn.Module):
    """Stem and the first five of MobileNetV2's seven groups of blocks. What follows them works at 1/32 of the input's
    sides and has three quarters of the parameters.

    Shape:
        input B×C×H×W, normalised; output: four maps, 16 × H/2, 24 × H/4, 32 × H/8, 96 × H/16.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.conv_stem, self.bn1, self.blocks = backbone.conv_stem, backbone.bn1, backbone.blocks[:5]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = self.bn1(self.conv_stem(x))  # timm's norm holds the activation
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        del maps[3]  # 64 × H/16, of which the fifth group makes 96
        return maps


def convolved(in_channels: int, out_channels: int) -> nn.Sequential:
    """3×3 convolution → batch norm → ReLU; height and width stay."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """From the deepest map back to the input's size: enlarge, concatenate the encoder's map, two 3×3 convolutions.

    Shape:
        input: image B×C×H×W and the encoder's four maps; output B × out_channels × H × W (logits).
    """

    def __init__(self, in_channels: int, out_channels: int, n: int):
        super().__init__()
        # Channels in and out at 1/8, 1/4, 1/2 of the input's size, and at its own.
        levels = [(96 + 32, 8 * n), (8 * n + 24, 4 * n), (4 * n + 16, 2 * n), (2 * n + in_channels, n)]
        self.levels = nn.ModuleList(nn.Sequential(convolved(a, b), convolved(b, b)) for a, b in levels)
        self.out = nn.Conv2d(n, out_channels, 1)
        nn.init.constant_(self.out.bias, -3.0)  # 5 % at first: a tumour fills a few percent of a slice

    def forward(self, image: Tensor, maps: list[Tensor]) -> Tensor:
        *skips, x = maps
        for level, skip in zip(self.levels, (*reversed(skips), image), strict=True):
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = level(torch.cat([x, skip], dim=1))
        return self.out(x)


class MobileNetUNet(Transfer):
    """An encoder that ImageNet weights fit, and a decoder; 699,185 parameters with one channel, one mask and 8 filters,
    1,088 more in Gluon's layout (`gluon.py`).

    ```
    in ─ stem ─┬─ 16 × H/2 ─┬─ 24 × H/4 ─┬─ 32 × H/8 ─ 96 × H/16 ┐
    └──────┐   └──────┐     └──────┐     └──────┐                │
           n ────── 2n ────────── 4n ───────── 8n ───────────────┘
           └ out
    ```

    Source: ours. MobileNetV2 after Sandler et al. 2018 (arXiv:1801.04381), the skips after Ronneberger et al. 2015
    (arXiv:1505.04597), the pretrained encoder after Iglovikov and Shvets 2018 (arXiv:1801.05746).

    Args:
        in_channels: sequences of a slice; 1 and other numbers than 3 as in `build_backbone`.
        out_channels: masks, which may overlap.
        n_filters: width of the decoder at the input's size; it doubles at each of three levels below.
        pretrained: of MobileNetV2, or a file of a whole `MobileNetUNet`; see `weights.Weights`.

    Shape:
        input B × in_channels × H × W in [0, 1], H and W divisible by 16; output B × out_channels × H × W (logits).

    Raises `ValueError` for sizes that it cannot take, `WeightsError` for weights that cannot be had or do not fit.
    """

    def __init__(
        self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 8, pretrained: str | Path | bool = False
    ):
        check_sizes(in_channels=in_channels, out_channels=out_channels, n_filters=n_filters)
        weights = Weights(pretrained)
        ours = f"a MobileNetUNet with {in_channels} channels, {out_channels} masks and n_filters={n_filters}"
        with weights.of(f"{BACKBONE}, nor of {ours}"):
            backbone, _, mean, std = load_backbone(BACKBONE, weights, in_channels, image_size=0)
            head = Decoder(in_channels, out_channels, n_filters)
            super().__init__(Encoder(backbone), head, mean, std, in_channels, image_size=0)
            weights.load_whole(self)

    def forward(self, x: Tensor) -> Tensor:
        check_batch(x, self.in_channels)
        maps = self.backbone((x.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.std)
        return self.head(x, [*maps[:-1], self.map(maps[-1])])
