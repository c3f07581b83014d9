"""ImprovedUNet, S2's lighter U-Net: depthwise 7×7 units, skips are added. Next: `attention_unet.py`."""

from torch import Tensor, nn

from models.checks import check_maps, check_sizes


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


def down(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two units of an encoder level, four times wider inside than their output."""
    wide = 4 * out_channels
    return nn.Sequential(InvertedUnit(in_channels, wide, out_channels), InvertedUnit(out_channels, wide, out_channels))


def up(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two units of a decoder level; the first is four times as wide inside as its input."""
    return nn.Sequential(
        InvertedUnit(in_channels, 4 * in_channels, out_channels),
        InvertedUnit(out_channels, 4 * out_channels, out_channels),
    )


class ImprovedUNet(nn.Module):
    """Four levels down, four up; 799,075 parameters with 4 channels in, 3 out and 16 filters.

    ```
    in ─ n ─────────────────────── + ─ n ─ out
         └ 2n ───────────────── + ─ n ┘
            └ 4n ─────────── + ─ 2n ┘
               └ 8n ───── + ─ 4n ┘
                  └ 8n ───┘          └ max-pool 2    ┘ bilinear upsampling by 2
    ```

    Source: S2's layer list.

    Args:
        in_channels: sequences of a slice; out_channels: masks, which may overlap.
        n_filters: width of the first level.

    Shape:
        input B × in_channels × H × W, H and W divisible by 16; output B × out_channels × H × W (logits).
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 16):
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, n_filters=n_filters)
        self.in_channels, n = in_channels, n_filters
        self.encoder = nn.ModuleList([down(in_channels, n), down(n, 2 * n), down(2 * n, 4 * n), down(4 * n, 8 * n)])
        self.bottleneck = down(8 * n, 8 * n)
        self.decoder = nn.ModuleList([up(8 * n, 4 * n), up(4 * n, 2 * n), up(2 * n, n), up(n, n)])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(n, out_channels, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Bottleneck 8n × H/16 × W/16, and the skips from n × H × W to 8n × H/8 × W/8."""
        check_maps(x, self.in_channels)
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        return self.bottleneck(x), skips

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.encode(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(self.up(x) + skip)
        return self.head(x)
