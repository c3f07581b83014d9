"""Parts of `make bench`: a training step of each network, plain and in other ways."""

import copy
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from models import MODELS, SEGMENTERS, build_backbone
from utils.training.loop import faster_precision

NETWORKS = ("CustomCNN", "AlexNet", "ViT", "ResNet50", "MobileNetV2", "ResNet50-v2")
NETWORKS += ("ClassicUNet", "ImprovedUNet", "AttentionUNet")
WAYS = {
    "plain": {},
    "channels_last": {"last": True},
    "fused optimiser": {"fused": True},
    "bf16": {"bf16": True},
    "bf16, channels_last": {"bf16": True, "last": True},
    "bf16, channels_last, fused": {"bf16": True, "last": True, "fused": True},
}


def case(name: str, device: str) -> tuple[nn.Module, Tensor, Tensor, Callable]:
    """A network with a batch of random images, its targets and its loss. On a GPU the size of a recipe: S2's batches,
    224 pixels for backbones; on a CPU 16 images of 128 pixels."""
    torch.manual_seed(0)
    gpu, masks = device != "cpu", name in SEGMENTERS
    if masks:
        batch, side = (32 if name == "ClassicUNet" else 8, 240) if gpu else (16, 128)
        net = SEGMENTERS[name](in_channels=4, out_channels=3, n_filters=32 if gpu else 16)
    else:
        batch, side = (64, 128 if name in MODELS else 224) if gpu else (16, 128)
        net = MODELS.get(name, partial(build_backbone, name))(num_classes=4, in_channels=3, image_size=side)
    inputs = torch.rand(batch, 4 if masks else 3, side, side)
    targets = (torch.rand(batch, 3, side, side) > 0.9).float() if masks else torch.randint(0, 4, (batch,))
    loss = nn.functional.binary_cross_entropy_with_logits if masks else nn.functional.cross_entropy
    return net.to(device), inputs.to(device), targets.to(device), loss


def step(net, inputs, targets, loss, *, bf16: bool = False, last: bool = False, **settings: bool) -> Callable:
    """One training step of a copy of the network: forward, backward, Adam with `settings`; `last`: in channels_last."""
    layout = {"memory_format": torch.channels_last} if last else {}
    net, inputs = copy.deepcopy(net).train().to(**layout), inputs.contiguous(**layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **settings)

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            value = loss(net(inputs), targets)
        value.backward()
        optimizer.step()

    return work


@cache
def in_16_bits(device: str) -> bool:
    """Whether bf16 is timed: not on a CPU where the trial of `precision="auto"` finds it slower. One that only converts
    the numbers takes so many times as long that the bench would not end."""
    return device != "cpu" or faster_precision(torch.device(device)) == "bf16"


def ways(name: str, device: str) -> dict[str, Callable]:
    """Sides: the step of one network, plain and with each change alone, then with several."""
    of, bf16 = partial(step, *case(name, device)), in_16_bits(device)
    return {way: of(**settings) for way, settings in WAYS.items() if bf16 or "bf16" not in settings}


def facts(name: str, device: str) -> dict[str, int | list[int]]:
    """Shape of the batch, and the number of parameters."""
    net, inputs, *_ = case(name, device)
    return {"inputs": list(inputs.shape), "parameters": sum(p.numel() for p in net.parameters())}
