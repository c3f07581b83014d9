"""Parts of `make bench`: a training step of each network, plain and in other ways; the same network of a peer."""

import copy
from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import nn

from models import MODELS, SEGMENTERS, build_backbone

BATCH, SIDE = 16, 128
LAST = torch.channels_last


def classifier(name: str) -> nn.Module:
    """A network of four classes on images of `SIDE` pixels, from scratch."""
    if name in MODELS:
        return MODELS[name](num_classes=4, in_channels=3, image_size=SIDE)
    return build_backbone(name, num_classes=4, in_channels=3, image_size=SIDE)


def step(
    net: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, *, bf16: bool = False, **settings: bool
) -> Callable[[], float]:
    """One training step: forward, backward, Adam. `settings` go to the optimiser."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **settings)
    loss = nn.functional.cross_entropy if targets.ndim == 1 else nn.functional.binary_cross_entropy_with_logits

    def work() -> float:
        optimizer.zero_grad()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            value = loss(net(inputs), targets)
        value.backward()
        optimizer.step()
        return value.item()  # waits for a GPU as well

    net.train()
    return work


def ways(net: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, compiled: bool) -> dict[str, Callable]:
    """The step of one network, plain and with each change alone; `compiled`: by torch.compile, too."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs, targets = inputs.to(device), targets.to(device)
    of = partial(copy.deepcopy, net.to(device))
    sides = {
        "plain": step(of(), inputs, targets),
        "channels_last": step(of().to(memory_format=LAST), inputs.contiguous(memory_format=LAST), targets),
        "fused optimiser": step(of(), inputs, targets, fused=True),
        "bf16": step(of(), inputs, targets, bf16=True),
        "bf16, channels_last": step(
            of().to(memory_format=LAST), inputs.contiguous(memory_format=LAST), targets, bf16=True
        ),
    }
    if compiled:
        sides["torch.compile"] = step(torch.compile(of()), inputs, targets)
    return sides


def classification(name: str, compiled: bool = False) -> dict[str, Callable]:
    """Sides of a classifier's step, a batch of 16 at 128 pixels."""
    torch.manual_seed(0)
    return ways(classifier(name), torch.rand(BATCH, 3, SIDE, SIDE), torch.randint(0, 4, (BATCH,)), compiled)


def segmentation(name: str, compiled: bool = False) -> dict[str, Callable]:
    """Sides of a U-Net's step, a batch of 16 of four sequences at 128 pixels, 16 filters."""
    torch.manual_seed(0)
    net = SEGMENTERS[name](in_channels=4, out_channels=3, n_filters=16)
    masks = (torch.rand(BATCH, 3, SIDE, SIDE) > 0.9).float()
    return ways(net, torch.rand(BATCH, 4, SIDE, SIDE), masks, compiled)


def peer_resnet() -> dict[str, Callable]:
    """Our ResNet50 and timm's, with a head of one layer each, in the same step."""
    inputs, targets = torch.rand(BATCH, 3, SIDE, SIDE), torch.randint(0, 4, (BATCH,))
    return {
        "timm": step(timm.create_model("resnet50", num_classes=4), inputs, targets),
        "ours": step(classifier("ResNet50"), inputs, targets),
    }


def peer_unet() -> dict[str, Callable]:
    """AttentionUNet and MONAI's U-Net of as many parameters (`ResidualUNet`), each in the layout that it trains in."""
    inputs, masks = torch.rand(BATCH, 4, SIDE, SIDE), (torch.rand(BATCH, 3, SIDE, SIDE) > 0.9).float()
    last = inputs.contiguous(memory_format=LAST)
    return {
        "MONAI": step(SEGMENTERS["ResidualUNet"](), inputs, masks),
        "MONAI, channels_last": step(SEGMENTERS["ResidualUNet"]().to(memory_format=LAST), last, masks),
        "AttentionUNet": step(SEGMENTERS["AttentionUNet"]().to(memory_format=LAST), last, masks),
        "ClassicUNet": step(SEGMENTERS["ClassicUNet"]().to(memory_format=LAST), last, masks),
    }
