"""What was predicted of a change before it was made; what it brought is in the record that `make bench` writes."""

from typing import NamedTuple


class Prediction(NamedTuple):
    """A change and its forecast.

    Attributes:
        change: what was done, and the bottleneck that a profile had named.
        part, side: where the result stands in the record; the ratio is to the part's base.
        ratio: predicted time as a share of the base's.
        kept: what became of it.
    """

    change: str
    part: str
    side: str
    ratio: float
    kept: str


PREDICTIONS = [
    Prediction(
        "Pairs of images alike: two thirds of curation was the product of all pixels, eight times; low cosine "
        "frequencies first, all pixels only where their bound allows it (a seventh of the arithmetic)",
        "pairs alike: 3,000 thumbnails",
        "bound first",
        0.15,
        "kept: the committed tables are the same, byte by byte",
    ),
    Prediction(
        "Interval of a mean: each draw gathered a million rows; sums of groups are drawn instead",
        "intervals of 1,000,000 predictions",
        "sums of groups drawn",
        0.1,
        "kept: `mean_interval`",
    ),
    Prediction(
        "CustomCNN, bf16: most time is in convolutions, which AMX multiplies in bf16",
        "step: CustomCNN",
        "bf16",
        0.6,
        "optional (`precision=bf16`): another precision gives other weights",
    ),
    Prediction(
        "AttentionUNet, channels_last: depthwise convolutions are slow in rows of channels",
        "step: AttentionUNet",
        "channels_last",
        0.5,
        "kept: `Segmentation.inputs` gives images in this layout",
    ),
    Prediction(
        "ResNet50, channels_last: oneDNN would not have to reorder the layout of each convolution",
        "step: ResNet50",
        "channels_last",
        0.8,
        "optional: sums are rounded in another order, so committed runs could not be resumed exactly",
    ),
    Prediction(
        "Fused Adam: one pass over the weights in place of several, where the weights are many and the batch small",
        "step: ViT",
        "fused optimiser",
        0.9,
        "optional: the step is rounded differently, so committed runs could not be resumed exactly",
    ),
    Prediction(
        "torch.compile of CustomCNN: batch norm and Mish become one pass over memory",
        "step: CustomCNN",
        "torch.compile",
        0.85,
        "not kept: it compiles for longer than the quick run of a chapter takes, and exact resuming would depend on it",
    ),
]
