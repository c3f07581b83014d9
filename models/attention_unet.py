"""AttentionUNet: ImprovedUNet whose skips pass a gate that the decoder opens and closes, as in S2."""

from torch import Tensor, nn

from models.improved_unet import ImprovedUNet


class AttentionGate(nn.Module):
    """Additive attention (Oktay et al. 2018, arXiv:1804.03999) as S2 built it.

    Args:
        channels: of the decoder's tensor and of the skip alike.
        normalised: scale each image's scores to mean 0 and spread 1 before the sigmoid, without parameters
            (instance norm, Ulyanov et al. 2016, arXiv:1607.08022). S2 had no such step, and found its two deep gates
            all 0 or all 1.

    Shape:
        decoder B × C × H × W, skip B × C × 2H × 2W → map in (0, 1), B × 1 × 2H × 2W.
    """

    def __init__(self, channels: int, normalised: bool = False, align_corners: bool = True):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        scale = nn.InstanceNorm2d(1) if normalised else nn.Identity()
        self.score = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(channels, 1, 1), scale, nn.Sigmoid())
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)

    def forward(self, decoder: Tensor, skip: Tensor) -> Tensor:
        # S2's stride of 2, taken by the slice: torch 2.15 corrupts memory in a strided 1×1 convolution of 4 channels
        # whose memory format is channels_last.
        return self.up(self.score(self.query(decoder) + self.key(skip[..., ::2, ::2])))


class AttentionUNet(ImprovedUNet):
    """`ImprovedUNet` with a gate on each skip; 843,319 parameters with 4 channels in, 3 out and 16 filters.

    Source: S2's layer list. Arguments and shapes as there, and `normalised` for the gates: their scores are scaled in
    every image, which needs at least 32×32 pixels in training.

    `forward(x, return_attention=True)` returns the logits and the four maps, from the deepest gate (H/8) to the
    finest (H), each B × 1 × h × w in (0, 1).
    """

    def __init__(self, *, n_filters: int = 16, normalised: bool = False, align_corners: bool = True, **channels: int):
        super().__init__(n_filters=n_filters, align_corners=align_corners, **channels)
        gates = [AttentionGate(width * n_filters, normalised, align_corners) for width in (8, 4, 2, 1)]
        self.gates = nn.ModuleList(gates)

    def forward(self, x: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        x, skips = self.encode(x)
        maps = []
        for level, gate, skip in zip(self.decoder, self.gates, reversed(skips), strict=True):
            maps.append(gate(x, skip))
            x = level(self.up(x) + maps[-1] * skip)
        logits = self.head(x)
        return (logits, maps) if return_attention else logits
