"""Builds an ImageNet network with a new head: `build_backbone(name, …)`. Heads: `heads.py`; weights: `weights.py`.

Eighteen have names here; any other name of timm's is accepted, too. SqueezeNet comes from torchvision, the others from
timm, but for those of `resnet50_v2.py` and `efficientnet_lite.py`, which need no import of seconds. Each receives
images normalised as in its own training, since other inputs make its weights worthless.
`python -m models.backbones NAME` fetches weights for nodes without network.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.checks import check_arguments, check_batch, check_name
from models.efficientnet_lite import MEAN, STD, EfficientNetLite0
from models.gluon import NORMALISATION, build_gluon, cut_behind_stage_three, is_gluon
from models.heads import HEADS
from models.weights import Weights, WeightsError, check_classes, fetched

# The project's name → timm's; the suffix says what the weights were trained on, ImageNet-1k last.
TIMM = {
    "VGG16": "vgg16.tv_in1k",
    "VGG19": "vgg19.tv_in1k",
    "ResNet50": "resnet50.tv_in1k",
    "ResNet50-v2": "resnetv2_50.a1h_in1k",  # three of its four stages, see `resnet50_v2.py`
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
LITE0 = "tf_efficientnet_lite0"  # timm's name
# Side of the smallest input, and what must divide a side; 64 and 1 where nothing is said.
SMALLEST = {"InceptionV3": 75}
MULTIPLE = {"Swin-B": 32, "ViT-B16": 16, "ViT-L32": 32}
# Layers between the features and the last layer of the classifier; a head of ours replaces these, too.
TOPS = {"VGG16": ("pre_logits",), "VGG19": ("pre_logits",), "MobileNetV3-Large": ("conv_head", "norm_head")}
# Where the head "hidden" keeps them instead: the dropout that torchvision has there.
DROPOUT = {"VGG16": 0.5, "VGG19": 0.5, "MobileNetV3-Large": 0.2}
# How an image in [0, 1] is scaled, by the network's own mean and std: as in its training; not at all, as S0 did; or
# divided by 255 once more before that, as S3 did.
SCALINGS = {
    "own": lambda mean, std: (mean, std),
    "none": lambda mean, std: ([0.0] * len(mean), [1.0] * len(std)),
    "twice": lambda mean, std: ([255 * value for value in mean], [255 * value for value in std]),
}


class Transfer(nn.Module):
    """A backbone and a head: normalise → features → logits.

    Args:
        backbone: has `forward_features`, as timm's, or `features`, as torchvision's.
        head: takes maps B × channels × h × w.
        mean, std: of R, G and B in the backbone's training, on images in [0, 1]. Where the channels are others, all
            have the mean of the three.
        in_channels: 1 is repeated to the three equal channels that a grey image of ImageNet has.
        image_size: side of the square input.

    Shape:
        input B × in_channels × image_size × image_size in [0, 1]; output B × num_classes (logits).
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, mean: tuple, std: tuple, in_channels: int, image_size: int
    ):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.map = nn.Identity()  # the input of the head, to which `saliency.grad_cam` attaches a hook
        self.in_channels, self.image_size = in_channels, image_size
        self.freeze_bn = False
        for name, values in (("mean", mean), ("std", std)):
            values = values if in_channels in (1, 3) else [sum(values) / 3] * in_channels
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.map(self.features((self.grey_or_rgb(x) - self.mean) / self.std)))

    def grey_or_rgb(self, x: Tensor) -> Tensor:
        """Input with the backbone's number of channels; raises `ValueError` for another shape than it was built for."""
        grey = x.ndim == 4 and x.shape[1] == 1
        check_batch(x, 1 if grey else self.in_channels, self.image_size)
        return x.expand(-1, self.mean.shape[1], -1, -1) if grey else x

    def features(self, x: Tensor) -> Tensor:
        """Normalised input → the backbone's last map, B × channels × h × w. Of a transformer B × channels × 1 × 1: its
        class token where its ImageNet classifier was trained on that, else the mean of its other tokens."""
        backbone = self.backbone
        x = backbone.forward_features(x) if hasattr(backbone, "forward_features") else backbone.features(x)
        if getattr(backbone, "hidden", False):
            return backbone.forward_head(x, pre_logits=True)[:, :, None, None]
        if x.ndim == 3:  # B × tokens × channels
            first = getattr(backbone, "num_prefix_tokens", 0)
            class_token = first and getattr(backbone, "global_pool", "token") == "token"
            return (x[:, 0] if class_token else x[:, first:].mean(1))[:, :, None, None]
        if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
            x = x.permute(0, 3, 1, 2)
        # Only ConvNeXt normalises after the average; normalised before it, as in Keras, it takes every head.
        norm = getattr(getattr(backbone, "head", None), "norm", None)
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
    scaling: str = "own",
    image_size: int = 0,
) -> Transfer:
    """Backbone `name`, of `BACKBONES` or any of timm's ("resnet18", "resnet18.a1_in1k"), with a new head.

    Args:
        pretrained: True takes ImageNet weights from the hub or its cache. A path is a weight file (.safetensors, or
            .pth that holds nothing but tensors): either of the backbone, whose classifier is checked and left out,
            or of a whole `Transfer`, head and all. False: random weights.
        in_channels: 3, or 1, which is repeated to three.
        head: key of `heads.HEADS`; "hidden" keeps the hidden layers of an ImageNet classifier that has some.
        scaling: key of `SCALINGS`.
        image_size: side of the input; 0 for the one that the weights were trained at. Position embeddings are resized.

    Raises:
        ValueError: a name that does not exist, with the nearest that does, or sizes that the network cannot take.
        WeightsError: weights that cannot be had, or are not those of this network.
    """
    if not is_backbone(name):
        import timm

        check_name(name, [*BACKBONES, *timm.list_models()], "backbone", f"{', '.join(BACKBONES)}, and timm's models")
    check_name(head, HEADS, "head")
    check_name(scaling, SCALINGS, "scaling")
    if not image_size:
        import timm

        image_size = 224 if name == SQUEEZENET else timm.get_pretrained_cfg(TIMM.get(name, name)).input_size[1]
    check_arguments(num_classes, in_channels, image_size, MULTIPLE.get(name, 1), SMALLEST.get(name, 64))
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels={in_channels}: 1 or 3 are accepted")
    weights = Weights(pretrained)
    with weights.of(f"{name} with {num_classes} classes and head '{head}'"):
        backbone, width, *scale = load_backbone(name, weights, in_channels, image_size, head == "hidden")
        scale = SCALINGS[scaling](*scale)
        model = Transfer(backbone, HEADS[head](width, num_classes), *scale, in_channels, image_size)
        weights.load_whole(model)
    model.to(memory_format=torch.channels_last)  # on a CPU a training step of ResNet50-v2 is 1.4 times as fast
    if name not in BACKBONES:  # not every network of timm's gives a map of features, or takes every size
        try:
            model.eval()(torch.zeros(1, in_channels, image_size, image_size))
        except Exception as error:  # any that one of a thousand networks may raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"image_size={image_size}: {name} cannot be a backbone at this size ({reason})") from error
    return model.train()


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows `name`: one of `BACKBONES`, or a model of timm's, alone or with a tag of its."""
    if name in (*BACKBONES, LITE0):
        return True
    import timm

    return timm.is_model(name) and ("." not in name or name in timm.list_pretrained())


def load_backbone(name: str, weights: Weights, in_channels: int, image_size: int, hidden: bool = False) -> tuple:
    """Backbone `name` without classifier, or with all but its last layer (`hidden`), with `weights`, where these are of
    a backbone, or random ones; the number of its features, and its mean and std on images in [0, 1]. `image_size` is
    for a network that can take one size only.
    For other channels than 1 and 3 the first convolution is repeated and scaled, as timm does.

    Raises:
        RuntimeError, KeyError: tensors of another network.
        WeightsError: weights that are not in the cache and cannot be fetched.
    """
    if name == SQUEEZENET:
        return _squeezenet(weights)
    channels, state = 3 if in_channels == 1 else in_channels, weights.of_backbone
    tag = TIMM.get(name, name)
    if is_gluon(name, weights.state):
        backbone = build_gluon(name, state, channels)
        return backbone, backbone.num_features, *NORMALISATION[name]
    if name == LITE0 and not weights.from_hub:
        backbone = EfficientNetLite0()
        if state is not None:
            check_classes(state, "classifier")
            backbone.load_state_dict({key: value for key, value in state.items() if not key.startswith("classifier.")})
        return backbone, backbone.num_features, MEAN, STD
    import timm

    facts = timm.get_pretrained_cfg(tag)
    arguments = {"in_chans": channels} | ({"img_size": image_size} if facts.fixed_input_size else {})
    hidden = hidden and name in DROPOUT
    if hidden:
        arguments["drop_rate"] = DROPOUT[name]
    if state is not None and f"{facts.classifier}.weight" not in state and not hidden:  # a file of the features alone
        backbone = timm.create_model(tag, num_classes=0, **arguments)
        backbone.load_state_dict(state)
    else:
        if state is not None:
            check_classes(state, facts.classifier, facts.num_classes)
            arguments["pretrained_cfg_overlay"] = {"state_dict": state}
        # With all its classes timm loads strictly: nothing may be missing, nothing too much.
        create = partial(timm.create_model, tag, pretrained=weights.from_hub or state is not None, **arguments)
        backbone = fetched(create, name, tag) if weights.from_hub else create()
        backbone.reset_classifier(0)
    if name == "ResNet50-v2":
        cut_behind_stage_three(backbone)
    if hidden:
        backbone.hidden = True
        if name.startswith("VGG"):  # torchvision's takes the average of maps of any size to 7×7
            backbone.pre_logits = nn.Sequential(nn.AdaptiveAvgPool2d(7), backbone.pre_logits)
        return backbone, backbone.head_hidden_size, facts.mean, facts.std
    for top in TOPS.get(name, ()):
        setattr(backbone, top, nn.Identity())
    return backbone, backbone.num_features, facts.mean, facts.std


def _squeezenet(weights: Weights) -> tuple:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    state = weights.of_backbone
    if weights.from_hub:
        get = partial(SqueezeNet1_1_Weights.IMAGENET1K_V1.get_state_dict, progress=True, check_hash=True)
        state = fetched(get, SQUEEZENET, "squeezenet1_1")
    backbone = squeezenet1_1()
    if state is not None:
        check_classes(state, "classifier.1")
        backbone.load_state_dict(state)
    backbone.classifier = nn.Identity()
    return backbone, 512, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


BACKBONES = {name: partial(build_backbone, name) for name in (*TIMM, SQUEEZENET)}


def main() -> int:
    """Command line: fetch the ImageNet weights of the backbones named into the cache."""
    parser = argparse.ArgumentParser(prog="python -m models.backbones", description=main.__doc__)
    parser.add_argument("name", nargs="+", help=", ".join(BACKBONES))
    try:
        for name in parser.parse_args().name:
            build_backbone(name, pretrained=True)
            print(f"{name}: ImageNet weights are in the cache")
    except (ValueError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
