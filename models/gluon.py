"""ResNet50-v2 up to its third stage, and two networks in the layout whose ImageNet weights the ONNX model zoo ships.

That layout (Apache MXNet's Gluon) differs from timm's networks of the same name in one place each, which a weight file
shows by its names. Weights from timm's own hub need none of this. Next: `backbones.py`, which asks here.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

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


def build_gluon(name: str, tag: str, state: dict[str, Tensor] | None, in_channels: int) -> nn.Module:
    """timm's network `tag` without classifier, changed to Gluon's layout: ResNet50-v2's stem has a norm, MobileNetV2's
    first block the expansion that timm leaves out.

    Args:
        state: tensors of the file, which must fit exactly; None for random weights.
        in_channels: for other numbers than 3 the first convolution is repeated and scaled, as timm does.

    Raises `RuntimeError`: `state` is that of another network.
    """
    import timm  # in functions only, here and in `backbones.py`: its import takes seconds, and few networks need it
    from timm.layers import BatchNormAct2d
    from timm.models import adapt_input_conv
    from timm.models._efficientnet_blocks import InvertedResidual

    backbone = timm.create_model(tag, in_chans=in_channels, num_classes=0)
    if name == "ResNet50-v2":
        pool = backbone.stem.pool
        del backbone.stem.pool
        backbone.stem.add_module("norm", BatchNormAct2d(64))
        backbone.stem.add_module("pool", pool)
        cut_behind_stage_three(backbone)
    else:
        backbone.blocks[0][0] = InvertedResidual(32, 16, exp_ratio=1.0, act_layer=nn.ReLU6)
    if state is not None:
        first = "stem.conv.weight" if name == "ResNet50-v2" else "conv_stem.weight"
        if first in state:
            state = state | {first: adapt_input_conv(in_channels, state[first].float())}
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
