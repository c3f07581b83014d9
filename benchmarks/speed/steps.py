"""Parts of `make bench`: a training step of each network, plain and in other ways."""

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import MODELS, SEGMENTERS, build_backbone

NETWORKS = ("CustomCNN", "AlexNet", "ViT", "ResNet50", "MobileNetV2", "ResNet50-v2")
NETWORKS += ("ClassicUNet", "ImprovedUNet", "AttentionUNet")
FAST = {"bf16": True, "last": True}


class Case(NamedTuple):
    """A network with a batch of random images and targets."""

    net: nn.Module
    inputs: Tensor
    targets: Tensor

    def loss(self, outputs: Tensor) -> Tensor:
        """Cross-entropy of labels, binary cross-entropy of masks."""
        labels = self.targets.ndim == 1
        loss = nn.functional.cross_entropy if labels else nn.functional.binary_cross_entropy_with_logits
        return loss(outputs, self.targets)


def case(name: str, device: str) -> Case:
    """On a GPU the size of a recipe: S2's batches, 224 pixels for backbones; on a CPU 16 images of 128 pixels."""
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
    return Case(net.to(device), inputs.to(device), targets.to(device))


def step(of: Case, *, bf16: bool = False, last: bool = False, **settings: bool) -> Callable:
    """One training step of a copy of the network: forward, backward, Adam with `settings`; `last`: in channels_last."""
    layout = {"memory_format": torch.channels_last} if last else {}
    net, inputs = copy.deepcopy(of.net).train().to(**layout), of.inputs.contiguous(**layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **settings)

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            value = of.loss(net(inputs))
        value.backward()
        optimizer.step()

    return work


def ways(name: str, device: str) -> dict[str, Callable]:
    """Sides: the step of one network, plain and with each change alone, then with several."""
    of = partial(step, case(name, device))
    alone = {"plain": of(), "channels_last": of(last=True), "fused optimiser": of(fused=True), "bf16": of(bf16=True)}
    return alone | {"bf16, channels_last": of(**FAST), "bf16, channels_last, fused": of(**FAST, fused=True)}


def facts(name: str, device: str) -> dict[str, int | list[int]]:
    """Shape of the batch, and the number of parameters."""
    of = case(name, device)
    return {"inputs": list(of.inputs.shape), "parameters": sum(p.numel() for p in of.net.parameters())}
