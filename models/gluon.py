"""Two networks in the layout whose ImageNet weights the ONNX model zoo ships.

That layout (Apache MXNet's Gluon) differs from timm's networks of the same name in one place each, which a weight file
shows by its names. Weights from timm's own hub need none of this. Next: `backbones.py`, which asks here.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.resnet50_v2 import ResNet50V2

# A tensor of each file in Gluon's layout that timm's own network lacks.
SIGNS = {"ResNet50-v2": "stem.norm.weight", "MobileNetV2": "blocks.0.0.conv_pwl.weight"}
# On images in [0, 1]. ResNet50-v2's includes the first batch norm, which Gluon applies to the image itself.
NORMALISATION = {
    "ResNet50-v2": ((0.45222, 0.42571, 0.37757), (0.28551, 0.27888, 0.28231)),
    "MobileNetV2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def is_gluon(name: str, keys: Iterable[str] | None) -> bool:
    """Whether a weight file of backbone `name`, alone or inside a `Transfer`, has Gluon's layout."""
    return name in SIGNS and not {SIGNS[name], f"backbone.{SIGNS[name]}"}.isdisjoint(keys or ())


def build_gluon(name: str, state: dict[str, Tensor] | None = None, in_channels: int = 3) -> nn.Module:
    """Backbone `name` without classifier in Gluon's layout: ours, or timm's MobileNetV2 with the expansion in its first
    block that timm leaves out.

    Args:
        state: tensors of the file, which must fit exactly; None for random weights.
        in_channels: of MobileNetV2, whose first convolution is repeated and scaled for other numbers than 3.

    Raises `RuntimeError`: `state` is that of another network.
    """
    if name == "ResNet50-v2":
        backbone = ResNet50V2()
    else:
        import timm  # in functions only, here and in `backbones.py`: its import takes seconds, and few networks need it
        from timm.models import adapt_input_conv
        from timm.models._efficientnet_blocks import InvertedResidual

        backbone = timm.create_model("mobilenetv2_100", in_chans=in_channels, num_classes=0)
        backbone.blocks[0][0] = InvertedResidual(32, 16, exp_ratio=1.0, act_layer=nn.ReLU6)
        if "conv_stem.weight" in (state or ()):
            first = adapt_input_conv(in_channels, state["conv_stem.weight"].float())
            state = state | {"conv_stem.weight": first}
    if state is not None:
        # Convolutions may be stored with 16 bits; how many batches a norm has seen is no weight.
        seen = {key: value for key, value in backbone.state_dict().items() if key.endswith("num_batches_tracked")}
        backbone.load_state_dict({key: value.float() for key, value in state.items()} | seen)
    return backbone


def cut_behind_stage_three(backbone: nn.Module) -> None:
    """Take the last stage of timm's ResNet50-v2 away, in place, and give the third its norm: the removed stage's first.

    The map of the third stage has four times as many places as that of the fourth, and 1024 channels.
    """
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(1024)
    with torch.no_grad():
        norm.load_state_dict(backbone.stages[3].blocks[0].norm1.state_dict())
    backbone.stages[3], backbone.norm, backbone.num_features = nn.Identity(), norm, 1024
