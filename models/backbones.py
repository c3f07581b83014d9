"""Builds one of eighteen ImageNet networks with a new head: `build_backbone(name, …)`. Heads: `heads.py`.

SqueezeNet comes from torchvision, the others from timm. Each receives images normalised as in its own training, since
other inputs make its weights worthless. `python -m models.backbones NAME` fetches weights for nodes without network.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.checks import check_arguments, check_name
from models.gluon import NORMALISATION, THREE_STAGES, build_gluon, cut_behind_stage_three, is_gluon
from models.heads import HEADS

# The project's name → timm's; the suffix says what the weights were trained on, ImageNet-1k last.
TIMM = {
    "VGG16": "vgg16.tv_in1k",
    "VGG19": "vgg19.tv_in1k",
    "ResNet50": "resnet50.tv_in1k",
    "ResNet50-v2": "resnetv2_50.a1h_in1k",  # three of its four stages, see `gluon.py`
    "ResNeXt50": "resnext50_32x4d.tv_in1k",
    "DenseNet121": "densenet121.tv_in1k",
    "InceptionV3": "inception_v3.tv_in1k",
    "Xception": "legacy_xception.tf_in1k",
    "MobileNetV2": "mobilenetv2_100.ra_in1k",
    "MobileNetV3-Large": "mobilenetv3_large_100.ra_in1k",
    "Swin-B": "swin_base_patch4_window7_224.ms_in1k",
    "ViT-B16": "vit_base_patch16_224.augreg_in1k",
    "ViT-L32": "vit_large_patch32_384.orig_in21k_ft_in1k",
    "EfficientNetV2-S": "tf_efficientnetv2_s.in1k",
    "EfficientNetV2-B1": "tf_efficientnetv2_b1.in1k",
    "ResNetRS152": "resnetrs152.tf_in1k",
    "ConvNeXt-S": "convnext_small.fb_in1k",
}
SQUEEZENET = "SqueezeNet"
# Side of the smallest input, and what must divide a side; 64 and 1 where nothing is said.
SMALLEST = {"InceptionV3": 75}
MULTIPLE = {"Swin-B": 32, "ViT-B16": 16, "ViT-L32": 32}
# Layers between the features and the last layer of the classifier; a head of ours replaces these, too.
TOPS = {"VGG16": ("pre_logits",), "VGG19": ("pre_logits",), "MobileNetV3-Large": ("conv_head", "norm_head")}
IMAGENET_CLASSES = 1000


class WeightsError(Exception):
    """A weight file that is missing, unreadable, or another network's; the message says what to do."""


class Transfer(nn.Module):
    """A backbone and a head: normalise → features → logits.

    Args:
        backbone: has `forward_features`, as timm's, or `features`, as torchvision's.
        head: takes maps B × channels × h × w.
        mean, std: of the backbone's training, of each channel, on images in [0, 1].
        in_channels: 1 is repeated to the three equal channels that a grey image of ImageNet has.
        image_size: side of the square input.

    Shape:
        input B × in_channels × image_size × image_size in [0, 1]; output B × num_classes (logits).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: list, std: list, in_channels: int, image_size: int):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.map = nn.Identity()  # the input of the head, to which `saliency.grad_cam` attaches a hook
        self.in_channels, self.image_size = in_channels, image_size
        self.freeze_bn = False
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.map(self.features((self.grey_or_rgb(x) - self.mean) / self.std)))

    def grey_or_rgb(self, x: Tensor) -> Tensor:
        """Input with the backbone's number of channels; raises `ValueError` for another shape than it was built for."""
        if x.ndim != 4 or x.shape[1] not in (1, self.in_channels) or x.shape[2:] != (self.image_size,) * 2:
            wanted = f"B×{self.in_channels}×{self.image_size}×{self.image_size}"
            raise ValueError(f"input of shape {'×'.join(map(str, x.shape))}: this model was built for {wanted}")
        return x.expand(-1, self.mean.shape[1], -1, -1) if x.shape[1] == 1 else x

    def features(self, x: Tensor) -> Tensor:
        """Normalised input → B × channels × h × w. Of a ViT its class token, B × channels × 1 × 1, since that is what
        its ImageNet classifier was trained on."""
        x = (
            self.backbone.forward_features(x)
            if hasattr(self.backbone, "forward_features")
            else self.backbone.features(x)
        )
        if x.ndim == 3:
            return x[:, 0, :, None, None]
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            x = x.permute(0, 3, 1, 2)
        # Only ConvNeXt normalises after the average; normalised before it, as in Keras, it takes every head.
        norm = getattr(getattr(self.backbone, "head", None), "norm", None)
        return norm(x) if isinstance(norm, nn.Module) else x

    def train(self, mode: bool = True) -> "Transfer":
        """As usual, but batch norms of the backbone whose weights are frozen, or all with `freeze_bn`, keep their
        statistics: they stay in evaluation."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm) and (self.freeze_bn or not module.weight.requires_grad):
                module.eval()
        return self


def build_backbone(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    num_classes: int = 4,
    in_channels: int = 3,
    head: str = "linear",
    image_size: int = 0,
) -> Transfer:
    """Backbone `name`, of `BACKBONES`, with a new head.

    Args:
        pretrained: True takes ImageNet weights from the hub or its cache. A path is a weight file (.safetensors, or
            .pth that holds nothing but tensors): either of the backbone, whose classifier is checked and left out,
            or of a whole `Transfer`, head and all. False: random weights.
        num_classes: number of logits, at least 2.
        in_channels: 1 to 4. Grey is repeated to three; for 2 and 4 the first convolution is repeated and scaled, as
            timm does.
        head: key of `heads.HEADS`.
        image_size: side of the input; 0 for the one that the weights were trained at. Position embeddings are resized.

    Raises:
        ValueError: a name or head that does not exist, or sizes that the network cannot take.
        WeightsError: weights that cannot be had, or are not those of this network.
    """
    check_name(name, BACKBONES, "backbone")
    check_name(head, HEADS, "head")
    make = _squeezenet if name == SQUEEZENET else partial(timm_backbone, name)
    image_size = image_size or _own_size(name)
    check_arguments(num_classes, in_channels, image_size, MULTIPLE.get(name, 1))
    if image_size < SMALLEST.get(name, 0):
        raise ValueError(f"image_size={image_size}: {name} takes a side of at least {SMALLEST[name]} pixels")
    state = pretrained if isinstance(pretrained, bool) else read_weights(pretrained)
    gluon = isinstance(state, dict) and is_gluon(name, state)
    whole = isinstance(state, dict) and all(key.startswith(("backbone.", "head.")) for key in state)
    channels = 3 if in_channels == 1 else in_channels
    try:
        backbone, width, mean, std = make(False if whole else state, channels, image_size, gluon)
        if isinstance(mean, tuple) and channels != 3:  # of R, G and B: none of them is a channel here
            mean, std = ([sum(values) / 3] * channels for values in (mean, std))
        model = Transfer(backbone, HEADS[head](width, num_classes), list(mean), list(std), in_channels, image_size)
        if whole:
            model.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        if isinstance(pretrained, bool):
            raise
        reason = " ".join(str(error).split()).replace("copying a param with shape torch.Size", "the file has ")
        raise WeightsError(
            f"{pretrained}: not the weights of {name} with {num_classes} classes and head '{head}' ({reason[:300]}). "
            "Name the file of this network, or leave it out."
        ) from error
    return model


def _own_size(name: str) -> int:
    import timm  # here, since its import takes seconds and only backbones need it

    return 224 if name == SQUEEZENET else timm.get_pretrained_cfg(TIMM[name]).input_size[1]


def timm_backbone(name: str, state: dict | bool, channels: int, image_size: int, gluon: bool) -> tuple:
    """timm's network `name` without classifier, the number of its features, and its mean and std on images in [0, 1].

    Args:
        state: tensors of a weight file; True: those of the hub or its cache; False: random ones.
        image_size: side of the input of a network that can take one size only.
        gluon: the layout that `models/gluon.py` explains.

    Raises:
        RuntimeError, KeyError: tensors of another network.
        WeightsError: weights that are not in the cache and cannot be fetched.
    """
    import timm

    tag = TIMM[name]
    facts = timm.get_pretrained_cfg(tag)
    arguments = {"in_chans": channels}
    if facts.fixed_input_size:
        arguments["img_size"] = image_size
    if gluon:
        backbone = build_gluon(name, tag, state or None, channels)
        return backbone, backbone.num_features, *NORMALISATION[name]
    if isinstance(state, dict):
        _check_classes(state, facts.classifier)
        arguments["pretrained_cfg_overlay"] = {"state_dict": state}
    try:
        # With all its classes timm loads strictly: nothing may be missing, nothing too much.
        backbone = timm.create_model(tag, pretrained=bool(state), **arguments)
    except RuntimeError:
        raise
    except Exception as error:  # each version of the hub's client has its own errors for being offline
        raise _not_fetched(name, tag, error) from error
    backbone.reset_classifier(0)
    for top in TOPS.get(name, ()):
        setattr(backbone, top, nn.Identity())
    if name in THREE_STAGES:
        cut_behind_stage_three(backbone)
    return backbone, backbone.num_features, facts.mean, facts.std


def _squeezenet(state: dict | bool, channels: int, image_size: int, gluon: bool = False) -> tuple:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.models import adapt_input_conv
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    if state is True:
        try:
            state = SqueezeNet1_1_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise _not_fetched(SQUEEZENET, "squeezenet1_1", error) from error
    backbone = squeezenet1_1()
    if state:
        _check_classes(state, "classifier.1")
        backbone.load_state_dict(state)
    if channels != 3:
        first = backbone.features[0]
        adapted = nn.Conv2d(channels, first.out_channels, first.kernel_size, first.stride)
        adapted.load_state_dict({"weight": adapt_input_conv(channels, first.weight.data), "bias": first.bias.data})
        backbone.features[0] = adapted
    backbone.classifier = nn.Identity()
    return backbone, 512, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def _check_classes(state: dict[str, Tensor], classifier: str) -> None:
    found = state.get(f"{classifier}.weight")
    if found is not None and len(found) != IMAGENET_CLASSES:
        raise RuntimeError(f"its classifier knows {len(found)} classes, those of ImageNet are {IMAGENET_CLASSES}")


def _not_fetched(name: str, what: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"the ImageNet weights of {name} ({what}) are not in the cache and cannot be fetched ({type(error).__name__}). "
        f"On a machine with network, such as a login node: make weights BACKBONE={name}"
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name. A .pth is unpickled as tensors only: code in it is refused, never run.

    Raises:
        WeightsError: no such file, half of one, or something else than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}). Fetch it again.") from error
    except Exception as error:  # torch raises what the half of a zip or a pickle happens to raise
        why = "it holds more than tensors" if "Unsupported" in str(error) or "GLOBAL" in str(error) else "half a file?"
        raise WeightsError(
            f"{path}: not readable as weights, nothing of it was run ({why}). Fetch it again, or take a .safetensors."
        ) from error
    for key in ("state_dict", "model"):  # where training scripts put it
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors; give the state_dict of a network")
    return state


BACKBONES = {name: partial(build_backbone, name) for name in (*TIMM, SQUEEZENET)}


def main(arguments: list[str] | None = None) -> int:
    """Command line: fetch the ImageNet weights of the backbones named into the cache."""
    parser = argparse.ArgumentParser(prog="python -m models.backbones", description=main.__doc__)
    parser.add_argument("name", nargs="+", help=", ".join(BACKBONES))
    try:
        for name in parser.parse_args(arguments).name:
            build_backbone(name, pretrained=True)
            print(f"{name}: ImageNet weights are in the cache")
    except (ValueError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
