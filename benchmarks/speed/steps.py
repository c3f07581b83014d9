"""Parts of `make bench`: a training step of each network, plain and in other ways; the same network of a peer."""

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import MODELS, SEGMENTERS, build_backbone

LAST = torch.channels_last
DEPTHWISE = ("ImprovedUNet", "AttentionUNet")
PEERS = {"cpu": 16, "cuda": 8}  # images in a step of U-Nets beside MONAI's
PRODUCT = {"cpu": 2048, "cuda": 8192}  # side of the matrices whose product shows what the device can do


class Case(NamedTuple):
    """A network with a batch of random images and targets."""

    net: nn.Module
    inputs: Tensor
    targets: Tensor

    def to(self, device: str) -> "Case":
        """The same on a device."""
        return Case(*(part.to(device) for part in self))


def case(name: str, device: str, batch: int = 0) -> Case:
    """On a GPU the size of a recipe: S2's batches, 224 pixels for backbones; on a CPU 16 images of 128 pixels.

    `batch`: another number of images. The U-Nets with depthwise convolutions take 8 on a GPU: 32 took seconds a step.
    """
    torch.manual_seed(0)
    gpu = device != "cpu"
    if name in SEGMENTERS:
        usual, side = (8 if name in DEPTHWISE else 32, 240) if gpu else (16, 128)
        net = SEGMENTERS[name](in_channels=4, out_channels=3, n_filters=32 if gpu else 16)
        batch = batch or usual
        made = Case(net, torch.rand(batch, 4, side, side), (torch.rand(batch, 3, side, side) > 0.9).float())
    else:
        usual, side = (64, 128 if name in MODELS else 224) if gpu else (16, 128)
        build = MODELS[name] if name in MODELS else partial(build_backbone, name)
        batch = batch or usual
        net = build(num_classes=4, in_channels=3, image_size=side)
        made = Case(net, torch.rand(batch, 3, side, side), torch.randint(0, 4, (batch,)))
    return made.to(device)


def loss_of(of: Case) -> Callable:
    """Cross-entropy of labels, binary cross-entropy of masks."""
    return nn.functional.cross_entropy if of.targets.ndim == 1 else nn.functional.binary_cross_entropy_with_logits


def step(of: Case, *, bf16: bool = False, last: bool = False, compiled: str = "", **settings: bool) -> Callable:
    """One training step of a copy of the network: forward, backward, Adam.

    `last`: in channels_last; `compiled`: a mode of torch.compile; `settings` go to the optimiser.
    """
    loss, net = loss_of(of), copy.deepcopy(of.net).train()
    layout = {"memory_format": LAST} if last else {}
    net, inputs = net.to(**layout) if last else net, of.inputs.contiguous(**layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **settings)
    net = torch.compile(net, mode=compiled) if compiled else net

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            value = loss(net(inputs), of.targets)
        value.backward()
        optimizer.step()

    return work


def ways(name: str, device: str) -> dict[str, Callable]:
    """Sides: the step of one network, plain and with each change alone, then with several."""
    of = partial(step, case(name, device))
    return {
        "plain": of(),
        "channels_last": of(last=True),
        "fused optimiser": of(fused=True),
        "bf16": of(bf16=True),
        "bf16, channels_last": of(bf16=True, last=True),
        "bf16, channels_last, fused": of(bf16=True, last=True, fused=True),
    }


def compiled(name: str, device: str) -> dict[str, Callable]:
    """Sides: the step of one network with and without torch.compile."""
    torch._dynamo.reset()
    of = partial(step, case(name, device))
    fast = {"bf16": True, "last": True}
    sides = {"plain": of(), "torch.compile": of(compiled="default"), "bf16, channels_last": of(**fast)}
    if device == "cpu":
        return sides | {"bf16, channels_last, torch.compile": of(**fast, compiled="default")}
    graphs = {"compiled": "reduce-overhead", "fused": True}  # kernels of a whole pass are started at once
    return sides | {
        "torch.compile with CUDA graphs, fused": of(**graphs),
        "bf16, channels_last, torch.compile with CUDA graphs, fused": of(**fast, **graphs),
    }


def facts(name: str, device: str) -> dict[str, int | list[int]]:
    """Shape of the batch, parameters, and the floating-point operations of convolutions and products in one step."""
    of = case(name, device).to("meta")
    with FlopCounterMode(display=False) as counted:
        loss_of(of)(of.net.train()(of.inputs), of.targets).backward()
    return {
        "inputs": list(of.inputs.shape),
        "parameters": sum(p.numel() for p in of.net.parameters()),
        "flop": counted.get_total_flops(),
    }


def products(device: str) -> dict[str, Callable]:
    """Sides: a product of two square matrices in float32 and in bf16."""
    n = PRODUCT[device]
    a, b = torch.rand(n, n, device=device), torch.rand(n, n, device=device)
    c, d = a.bfloat16(), b.bfloat16()
    return {"float32": lambda: a @ b, "bf16": lambda: c @ d}


def peer_resnet(device: str) -> dict[str, Callable]:
    """Our ResNet50 and timm's, with a head of one layer each, in the same step."""
    ours = case("ResNet50", device)
    theirs = ours._replace(net=timm.create_model("resnet50", num_classes=4).to(device))
    fast = {"bf16": True, "last": True}
    return {
        "timm": step(theirs),
        "ours": step(ours),
        "timm, bf16, channels_last": step(theirs, **fast),
        "ours, bf16, channels_last": step(ours, **fast),
    }


def peer_unet(device: str) -> dict[str, Callable]:
    """The three U-Nets and MONAI's, as many parameters as AttentionUNet has, in the layout that ours train in."""
    monai = case("ResidualUNet", device, PEERS[device])
    monai = monai._replace(net=monai.net.model)  # without our check of shapes
    ours = {name: case(name, device, PEERS[device]) for name in ("AttentionUNet", "ImprovedUNet", "ClassicUNet")}
    found = {"MONAI": step(monai), "MONAI, channels_last": step(monai, last=True)}
    found |= {name: step(of, last=True) for name, of in ours.items()}
    found |= {"MONAI, bf16, channels_last": step(monai, bf16=True, last=True)}
    return found | {f"{name}, bf16": step(of, bf16=True, last=True) for name, of in ours.items()}


def sizes(device: str) -> dict[str, dict[str, int]]:
    """Parameters of the networks that `peer_unet` compares."""
    names = {"MONAI": "ResidualUNet"} | {name: name for name in ("AttentionUNet", "ImprovedUNet", "ClassicUNet")}
    return {
        "parameters of": {
            title: sum(p.numel() for p in case(name, device).net.parameters()) for title, name in names.items()
        }
    }
