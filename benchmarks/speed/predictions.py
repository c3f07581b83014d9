"""What was predicted before it was measured: the commit that brought a line here is older than its record."""

from typing import NamedTuple


class Prediction(NamedTuple):
    """A forecast.

    Attributes:
        device: whose record holds the result.
        part, side: where it stands there.
        ratio: predicted time as a share of that of the part's base.
        because: the bottleneck that was assumed.
    """

    device: str
    part: str
    side: str
    ratio: float
    because: str


PREDICTIONS = [
    Prediction(
        "cuda",
        "step: CustomCNN",
        "fused optimiser",
        0.8,
        "64 small images do not fill the GPU: starting kernels takes most time, and Adam's become one",
    ),
    Prediction(
        "cuda", "step: CustomCNN", "bf16, channels_last", 0.9, "as before; converting to bf16 starts kernels of its own"
    ),
    Prediction(
        "cuda", "step: ViT", "bf16", 0.45, "products of float32 use no tensor cores by default; those of bf16 do"
    ),
    Prediction(
        "cuda",
        "step: ResNet50",
        "bf16, channels_last",
        0.4,
        "convolutions run in TF32 already: bf16 halves the bytes, and channels_last spares changes of layout",
    ),
    Prediction(
        "cuda",
        "step: MobileNetV2",
        "bf16, channels_last",
        0.6,
        "depthwise convolutions are limited by memory: half the bytes",
    ),
    Prediction(
        "cuda", "step: ClassicUNet", "bf16, channels_last", 0.4, "as for ResNet50; large maps are limited by memory"
    ),
    Prediction(
        "cuda",
        "step: AttentionUNet",
        "channels_last",
        1.3,
        "slower: the kernel for depthwise 7 × 7 convolutions of float32 wants the other layout, unlike that of a CPU",
    ),
    Prediction(
        "cuda",
        "epoch: classification",
        "fit",
        0.12,
        "reading and augmenting file by file on the processor takes 6 ms an image; `fit` augments on the GPU",
    ),
    Prediction(
        "cuda", "compiled step: CustomCNN", "torch.compile", 0.8, "batch norm, Mish and the loss become fewer kernels"
    ),
    Prediction(
        "cuda",
        "compiled step: CustomCNN",
        "torch.compile with CUDA graphs, fused",
        0.4,
        "what the first measurement showed: such steps wait for the processor, which then starts one graph",
    ),
    Prediction(
        "cuda",
        "compiled step: ViT",
        "bf16, channels_last, torch.compile with CUDA graphs, fused",
        0.15,
        "as before, and products by tensor cores count once nothing waits",
    ),
    Prediction("cuda", "step: ResNet50 beside timm's", "ours", 1.0, "the same layers by the same library"),
    Prediction(
        "cuda",
        "step: U-Nets beside MONAI's",
        "AttentionUNet",
        4.0,
        "as many parameters, but MONAI's has one strided unit at full size where ours has several, four times as wide",
    ),
    Prediction("cpu", "step: AlexNet", "bf16", 0.6, "products and convolutions in bf16 by AMX; Adam stays float32"),
    Prediction("cpu", "step: ViT", "bf16", 0.5, "nearly all of it are products, which AMX multiplies in bf16"),
    Prediction("cpu", "step: ResNet50", "channels_last", 0.8, "oneDNN need not change the layout at each convolution"),
    Prediction("cpu", "step: MobileNetV2", "channels_last", 0.7, "as for ResNet50, and depthwise convolutions gain"),
    Prediction("cpu", "step: ViT", "fused optimiser", 0.9, "one pass over 21 million weights instead of several"),
    Prediction(
        "cpu",
        "epoch: classification",
        "fit, bf16",
        0.3,
        "the network is nearly all of an epoch of `fit`, which took 0.40 of S2's; bf16 brings that to 0.6 of it, and "
        "augmentation stays",
    ),
    Prediction(
        "cpu", "epoch: segmentation", "fit", 0.6, "reading is small beside a U-Net; channels_last halves the model"
    ),
    Prediction("cpu", "reading, files in memory", "our store", 0.8, "a chunk is unpacked in about the time of a JPEG"),
]
