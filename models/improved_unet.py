"""ImprovedUNet, S2's lighter U-Net: depthwise 7×7 units, skips are added. Next: `attention_unet.py`."""

from torch import Tensor, nn

from models.classic_unet import UNet


class InvertedUnit(nn.Sequential):
    """Depthwise 7×7 → batch norm → 1×1 to `mid_channels` → ReLU → 1×1 to `out_channels`, after ConvNeXt's block
    (Liu et al. 2022, arXiv:2201.03545) without its residual; height and width stay.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels),
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, mid_channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, 1),
        )


def two_units(in_channels: int, wide: int, out_channels: int) -> nn.Sequential:
    """A level: the first unit is `wide` inside, the second four times as wide as its output."""
    first = InvertedUnit(in_channels, wide, out_channels)
    return nn.Sequential(first, InvertedUnit(out_channels, 4 * out_channels, out_channels))


class ImprovedUNet(UNet):
    """Four levels down, four up; 799,075 parameters with 4 channels in, 3 out and 16 filters.

    ```
    in ─ n ─────────────────────── + ─ n ─ out
         └ 2n ───────────────── + ─ n ┘
            └ 4n ─────────── + ─ 2n ┘
               └ 8n ───── + ─ 4n ┘
                  └ 8n ───┘          └ max-pool 2    ┘ bilinear upsampling by 2
    ```

    The first unit of a level is wide inside: four times its output in the encoder, four times its input in the decoder.
    Source: S2's layer list. Arguments and shapes: `UNet`.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 16, align_corners: bool = True):
        def blocks(n: int) -> list[nn.Module]:
            down = [(in_channels, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n), (8 * n, 8 * n)]
            up = [(8 * n, 4 * n), (4 * n, 2 * n), (2 * n, n), (n, n)]
            return [two_units(a, 4 * b, b) for a, b in down] + [two_units(a, 4 * a, b) for a, b in up]

        super().__init__(blocks, in_channels, out_channels, n_filters, align_corners)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.encode(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(self.up(x) + skip)
        return self.head(x)
