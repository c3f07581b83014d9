"""OutlineClassifier: outlines the tumour, then names the image from what it outlined. Where, then what.

The encoder is ResNet50-v2's first stages (`gluon.py`), so that ImageNet weights fit; the decoder is light.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import Transfer
from models.checks import check_arguments, check_name
from models.gluon import NORMALISATION, build_gluon, is_gluon
from models.heads import Head, average_and_maximum
from models.weights import Weights, WeightsError

BACKBONE = "ResNet50-v2"
WIDTHS = (64, 256, 512, 1024)  # channels of the encoder's maps at 1/2, 1/4, 1/8 and 1/16 of the input's side
DEEP_BLOCKS = 2  # of the third stage's six: with all of them the network would have 9 million parameters
DECODER = (24, 48, 96)  # channels of the decoder's maps at 1/2, 1/4 and 1/8


class Encoder(nn.Module):
    """Stem, two stages and the first blocks of the third of a ResNet50-v2, 4.1 million parameters.

    A pre-activation network adds to a stream that only the next block's norm makes comparable: each map is given out
    behind that norm.

    Shape:
        input B×3×S×S, normalised; output: four maps, 64 × S/2, 256 × S/4, 512 × S/8, 1024 × S/16.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.stem, self.stages = backbone.stem, backbone.stages[:3]
        blocks = self.stages[2].blocks
        self.norm = blocks[DEEP_BLOCKS].norm1
        self.stages[2].blocks = blocks[:DEEP_BLOCKS]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem.norm(self.stem.conv(x))]  # 64 × S/2
        x = self.stem.pool(maps[0])
        following = [*(stage.blocks[0].norm1 for stage in self.stages[1:]), self.norm]
        for stage, norm in zip(self.stages, following, strict=True):
            x = stage(x)
            maps.append(norm(x))  # 256 × S/4, 512 × S/8, 1024 × S/16
        return maps


def block(width: int) -> nn.Sequential:
    """Group norm → ReLU → 3×3 convolution → group norm → ReLU; height and width stay.

    No batch norm here nor in the heads: its averages over augmented images are not those of the images as they are,
    which cost accuracy even on the very images that were trained on.
    """
    middle = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(nn.GroupNorm(8, width), nn.ReLU(), middle, nn.GroupNorm(8, width), nn.ReLU())


class Decoder(nn.Module):
    """From the encoder's four maps to logits B × channels × S/2 × S/2: enlarge, add the next map, convolve."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [*DECODER, DECODER[-1]]
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1, bias=False) for c, w in zip(WIDTHS, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in zip(widths[1:], widths, strict=False))
        self.blocks = nn.ModuleList(map(block, DECODER))
        self.out = nn.Conv2d(DECODER[0], channels, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.lateral[3](maps[3])  # 96 × S/16
        for level in (2, 1, 0):
            x = F.interpolate(self.narrow[level](x), maps[level].shape[-2:], mode="bilinear")
            x = self.blocks[level](x + self.lateral[level](maps[level]))  # 96 × S/8, 48 × S/4, 24 × S/2
        return self.out(x)


class InsideOutline(nn.Module):
    """Names the image from its outline: average and maximum of the features inside it, how strongly each kind of tumour
    is outlined, and how much is outlined at all → one linear layer.

    Shape:
        features B×1024×h×w, outline B×(1+kinds)×H×W (logits, the background first) → B × num_classes (logits).
    """

    def __init__(self, channels: int, kinds: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(2 * channels)
        self.out = nn.Linear(2 * channels + kinds + 1, num_classes)

    def forward(self, features: Tensor, outline: Tensor) -> Tensor:
        outline = outline.float()
        tumour = outline.softmax(1)[:, 1:].sum(1, keepdim=True)  # B×1×H×W; 1 minus the background would round to 0
        share = F.adaptive_avg_pool2d(tumour, features.shape[-2:])  # B×1×h×w
        inside = share / share.amax((2, 3), keepdim=True).clamp_min(1e-6)  # 1 at the most suspicious place
        mean = (features * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1e-6)
        most = (features * inside).amax((2, 3))
        strength = (outline[:, 1:] - outline[:, :1]).flatten(2).amax(2)  # log odds of each kind against the background
        area = tumour.mean((1, 2, 3)).clamp_min(1e-6).log()[:, None]
        return self.out(torch.cat([self.norm(torch.cat([mean, most], dim=1)), strength, area], dim=1))


class OutlineClassifier(Transfer):
    """Outlines each kind of tumour and names the image; 4,369,304 parameters with 4 classes, one of them healthy.

    ```
    in ─ stem ─ stage 1 ─ stage 2 ─ stage 3, two blocks ─┬─ map 1024 × S/16 ──┐
          └────────┴─────────┴──── add ← enlarge ← … ←───┘                     ├─ classes
                                   └─ outline (background and kinds) ─ where ──┘
    ```

    Source: ours. One network for both tasks as Díaz-Pernas et al. 2021 (doi:10.3390/healthcare9020153); the decoder
    after Lin et al. 2017 (arXiv:1612.03144); naming from weighted features after Ilse et al. 2018 (arXiv:1802.04712),
    with the outline in the attention's place.

    Args:
        healthy: index of the class without a tumour; None where every image shows one.
        in_channels: 1 (repeated to three) or 3.
        image_size: side of the square input, divisible by 16.
        outline: False leaves the decoder out: a plain classifier on the same encoder.
        named_from: "outline", or "image" for the average and maximum of the whole map.
        pretrained: path of a weight file of ResNet50-v2 in Gluon's layout; False: random weights.

    Shape:
        input B × in_channels × S × S in [0, 1]; output by name: `classes` B × num_classes (logits), and `outline`
        B × (1 + kinds) × S × S (logits): the background, then each class with a tumour, in the order of the classes.

    Raises `ValueError` for sizes or names that it cannot take, `WeightsError` for weights of another encoder.
    """

    def __init__(
        self,
        *,
        num_classes: int = 4,
        healthy: int | None = None,
        in_channels: int = 3,
        image_size: int = 128,
        outline: bool = True,
        named_from: str = "outline",
        pretrained: str | Path | bool = False,
    ):
        check_arguments(num_classes, in_channels, image_size, 16)
        check_name(named_from, ("image", "outline"), "named_from")
        if named_from == "outline" and not outline:
            raise ValueError("named_from='outline': there is none with outline=False")
        weights = Weights(pretrained)
        if weights.from_hub or (weights.state is not None and not is_gluon(BACKBONE, weights.state)):
            raise WeightsError(f"{pretrained}: not {BACKBONE} in Gluon's layout: name a weight file that is")
        with weights.of(BACKBONE):
            encoder = Encoder(build_gluon(BACKBONE, weights.state))
        kinds, width, head = num_classes - (healthy is not None), 2 * WIDTHS[-1], nn.Module()
        if outline:
            head.decoder = Decoder(1 + kinds)
        if named_from == "outline":
            head.name = InsideOutline(WIDTHS[-1], kinds, num_classes)
        else:
            head.name = Head(average_and_maximum, norm=nn.LayerNorm(width), out=nn.Linear(width, num_classes))
        super().__init__(encoder, head, *NORMALISATION[BACKBONE], in_channels, image_size)
        self.named_from = named_from

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.backbone((self.grey_or_rgb(x) - self.mean) / self.std)
        features = self.map(maps[-1])
        if not hasattr(self.head, "decoder"):
            return {"classes": self.head.name(features)}
        outline = self.head.decoder([*maps[:-1], features])
        inside = (features, outline) if self.named_from == "outline" else (features,)
        whole = F.interpolate(outline, x.shape[-2:], mode="bilinear")
        return {"classes": self.head.name(*inside), "outline": whole}
