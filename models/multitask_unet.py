"""MultiTaskUNet, the network of S0: one encoder reconstructs the image, detects a tumour and names it."""

import torch
from torch import Tensor, nn

from models.checks import check_batch, check_sizes

LATENT = 256  # width of the layer that both heads share


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """(3×3 convolution without bias → batch norm → ReLU) twice; height and width stay."""
    layers = []
    for width in (in_channels, out_channels):
        layers += [nn.Conv2d(width, out_channels, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class MultiTaskUNet(nn.Module):
    """A U-Net whose bottleneck also feeds two heads; 31,299,909 parameters at width 64 with 1 channel.

    ```
    in ─ w ──────────────────────────── cat ─ w ─ reconstruction
         └ 2w ─────────────────── cat ─ 2w ┘
            └ 4w ─────────── cat ─ 4w ┘
               └ 8w ─── cat ─ 8w ┘         └ max-pool 2    ┘ transposed convolution by 2
                  └ 16w ┘
                     └ mean ─ 256, the latent ─┬ tumour: 1 logit
                                               └ subtype: one logit a kind of tumour
    ```

    Source: S0's layer list, after Ronneberger, Fischer & Brox 2015 (arXiv:1505.04597). The last two arguments
    remove a part, for the ablation.

    Args:
        in_channels: channels of the image, which are also reconstructed.
        width: filters of the first level; S0 has 64.
        num_subtypes: kinds of tumour.
        reconstruct: False leaves the decoder out.
        hierarchical: False puts one head over all classes, the healthy one included, in place of the two.

    Shape:
        input B × in_channels × H × W, H and W divisible by 16. Output, by name: `reconstruction` as the input,
        `latent` B × 256, `tumour` B (logit) and `subtype` B × num_subtypes (logits); without hierarchy `classes`
        B × (num_subtypes + 1) in place of these two.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        width: int = 64,
        num_subtypes: int = 3,
        reconstruct: bool = True,
        hierarchical: bool = True,
    ):
        super().__init__()
        check_sizes(in_channels=in_channels, num_subtypes=num_subtypes, width=width)
        self.in_channels = in_channels
        widths = [width * 2**level for level in range(5)]  # w, 2w, 4w, 8w and the bottleneck's 16w
        self.encoder = nn.ModuleList(map(double_conv, [in_channels, *widths[:-1]], widths))
        self.pool = nn.MaxPool2d(2)
        latent = nn.Linear(widths[-1], LATENT)
        self.shared = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), latent, nn.ReLU(inplace=True))
        outputs = {"tumour": 1, "subtype": num_subtypes} if hierarchical else {"classes": num_subtypes + 1}
        self.heads = nn.ModuleDict(
            {name: nn.Sequential(nn.Dropout(0.2), nn.Linear(LATENT, n)) for name, n in outputs.items()}
        )
        self.decoder = Decoder(widths, in_channels) if reconstruct else None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        check_batch(x, self.in_channels)
        levels = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)  # w × H × W, 2w × H/2 × W/2, …, 16w × H/16 × W/16
            levels.append(x)
        latent = self.shared(x)  # B × 256
        out = {"latent": latent} | {name: head(latent) for name, head in self.heads.items()}
        if "tumour" in out:
            out["tumour"] = out["tumour"].squeeze(1)
        if self.decoder is not None:
            out["reconstruction"] = self.decoder(levels)
        return out


class Decoder(nn.Module):
    """From the bottleneck back to the image; `widths` of the levels, the bottleneck's last."""

    def __init__(self, widths: list[int], out_channels: int):
        super().__init__()
        pairs = [(2 * level, level) for level in reversed(widths[:-1])]  # 16w → 8w, …, 2w → w
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, level, 2, stride=2) for deep, level in pairs)
        self.blocks = nn.ModuleList(double_conv(2 * level, level) for _, level in pairs)
        self.out = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x, *skips = reversed(levels)
        for up, block, skip in zip(self.up, self.blocks, skips, strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
        return self.out(x)  # no activation
