"""ClassicUNet, the plain U-Net of S2: skips are concatenated, no batch norm. Next: `improved_unet.py`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.checks import check_batch, check_sizes


class UNet(nn.Module):
    """Four levels down, four up, as S2's U-Nets share them: max-pool 2 between the levels of the encoder, bilinear
    upsampling by 2 before those of the decoder.

    Args:
        blocks: n_filters n → the four levels of the encoder, the bottleneck, the four levels of the decoder.
        in_channels: sequences of a slice; out_channels: masks, which may overlap.
        n_filters: width of the first level.
        align_corners: of the bilinear upsampling. S2 aligns them; weights whose card says False are of earlier runs.

    Shape:
        input B × in_channels × H × W, H and W divisible by 16; output B × out_channels × H × W (logits).
    """

    def __init__(
        self,
        blocks: Callable[[int], list[nn.Module]],
        in_channels: int,
        out_channels: int,
        n_filters: int,
        align_corners: bool,
    ):
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, n_filters=n_filters)
        levels = blocks(n_filters)
        self.in_channels = in_channels
        self.encoder, self.bottleneck, self.decoder = nn.ModuleList(levels[:4]), levels[4], nn.ModuleList(levels[5:])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
        self.head = nn.Conv2d(n_filters, out_channels, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Bottleneck 8n × H/16 × W/16, and the skips from n × H × W to 8n × H/8 × W/8."""
        check_batch(x, self.in_channels)
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        return self.bottleneck(x), skips


def double_conv(in_channels: int, mid_channels: int, out_channels: int) -> nn.Sequential:
    """(3×3 convolution → ReLU) twice; height and width stay."""
    first = nn.Conv2d(in_channels, mid_channels, 3, padding=1)
    last = nn.Conv2d(mid_channels, out_channels, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(inplace=True), last, nn.ReLU(inplace=True))


class ClassicUNet(UNet):
    """Four levels down, four up; 1,375,043 parameters with 4 channels in, 3 out and 16 filters.

    ```
    in ─ n ───────────────────────────── cat ─ n ─ out
         └ 2n ─────────────────── cat ─ n ┘
            └ 4n ─────────── cat ─ 2n ┘
               └ 8n ── cat ─ 4n ┘
                  └ 16n, 8n ┘          └ max-pool 2    ┘ bilinear upsampling by 2
    ```

    Source: S2's layer list, after Ronneberger, Fischer & Brox 2015 (arXiv:1505.04597). Arguments and shapes: `UNet`.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 16, align_corners: bool = True):
        def blocks(n: int) -> list[nn.Module]:
            down = [(in_channels, n, n), (n, 2 * n, 2 * n), (2 * n, 4 * n, 4 * n), (4 * n, 8 * n, 8 * n)]
            up = [(16 * n, 8 * n, 4 * n), (8 * n, 4 * n, 2 * n), (4 * n, 2 * n, n), (2 * n, n, n)]
            return [double_conv(*widths) for widths in (*down, (8 * n, 16 * n, 8 * n), *up)]

        super().__init__(blocks, in_channels, out_channels, n_filters, align_corners)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.encode(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat([self.up(x), skip], dim=1))
        return self.head(x)
