"""ClassicUNet, the plain U-Net of S2: skips are concatenated, no batch norm. Next: `improved_unet.py`."""

import torch
from torch import Tensor, nn

from models.checks import check_maps, check_sizes


def double_conv(in_channels: int, mid_channels: int, out_channels: int) -> nn.Sequential:
    """(3×3 convolution → ReLU) twice; height and width stay."""
    return nn.Sequential(
        nn.Conv2d(in_channels, mid_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(mid_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class ClassicUNet(nn.Module):
    """Four levels down, four up; 1,375,043 parameters with 4 channels in, 3 out and 16 filters.

    ```
    in ─ n ───────────────────────────── cat ─ n ─ out
         └ 2n ─────────────────── cat ─ n ┘
            └ 4n ─────────── cat ─ 2n ┘
               └ 8n ── cat ─ 4n ┘
                  └ 16n, 8n ┘          └ max-pool 2    ┘ bilinear upsampling by 2
    ```

    Source: S2's layer list, after Ronneberger, Fischer & Brox 2015 (arXiv:1505.04597).

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
        self.encoder = nn.ModuleList(
            [
                double_conv(in_channels, n, n),
                double_conv(n, 2 * n, 2 * n),
                double_conv(2 * n, 4 * n, 4 * n),
                double_conv(4 * n, 8 * n, 8 * n),
            ]
        )
        self.bottleneck = double_conv(8 * n, 16 * n, 8 * n)
        self.decoder = nn.ModuleList(
            [
                double_conv(16 * n, 8 * n, 4 * n),
                double_conv(8 * n, 4 * n, 2 * n),
                double_conv(4 * n, 2 * n, n),
                double_conv(2 * n, n, n),
            ]
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(n, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_maps(x, self.in_channels)
        skips = []
        for level in self.encoder:
            x = level(x)  # n × H × W, 2n × H/2 × W/2, …, 8n × H/8 × W/8
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)  # 8n × H/16 × W/16
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat([self.up(x), skip], dim=1))
        return self.head(x)
