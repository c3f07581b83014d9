"""The parts of `make bench`: what is timed, beside what."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import loops
import pairs
import reads
import starts
import steps

CLASSIFIERS = ("CustomCNN", "AlexNet", "ViT", "ResNet50", "MobileNetV2", "ResNet50-v2")
UNETS = ("ClassicUNet", "ImprovedUNet", "AttentionUNet")
COMPILED = {"cpu": ("CustomCNN",), "cuda": ("CustomCNN", "ViT", "ResNet50")}


class Part(NamedTuple):
    """A benchmark.

    Attributes:
        sides: folder for files → name → what is timed, made when the part runs.
        base: the side that the others are compared with.
        rounds: how many.
        facts: what else is known of it, for the record.
        whole: calls are timed one by one, however short.
        needs: seconds below which it is not begun.
    """

    sides: Callable[[Path], dict[str, Callable]]
    base: str
    rounds: int = 5
    facts: Callable[[], dict] = dict
    whole: bool = True
    needs: float = 3.0


def parts(device: str) -> dict[str, Part]:
    """Name → benchmark, in the order of the page; on a GPU the parts that need one."""
    every = _steps(device)
    epoch = partial(loops.classification, device)
    every["epoch: classification"] = Part(epoch, "S2's manner", 3, facts=lambda: loops.NOTE, needs=8)
    if device == "cpu":
        every["epoch: segmentation"] = Part(partial(loops.segmentation, device), "S2's manner", 3)
    every |= _peers(device)
    for name in COMPILED[device]:
        sides = lambda _, n=name: steps.compiled(n, device)  # noqa: E731
        every[f"compiled step: {name}"] = Part(sides, "plain", whole=False, needs=15)
    return every | (_rest() if device == "cpu" else {})


def in_order(every: dict[str, Part]) -> list[str]:
    """Names in the order of measuring: what takes longest for what it tells comes last, where time may be over."""
    late = [name for name in every if "compiled" in name or name.removeprefix("step: ") in steps.DEPTHWISE]
    return [name for name in every if name not in late] + late


def _steps(device: str) -> dict[str, Part]:
    side = steps.PRODUCT[device]
    product = partial(dict, flop=2 * side**3, side=side)
    found = {"matrix product": Part(lambda _: steps.products(device), "float32", facts=product, whole=False)}
    for name in (*CLASSIFIERS, *UNETS):
        sides, facts = lambda _, n=name: steps.ways(n, device), partial(steps.facts, name, device)
        found[f"step: {name}"] = Part(sides, "plain", facts=facts, whole=False)
    return found


def _peers(device: str) -> dict[str, Part]:
    sizes = partial(steps.sizes, device)
    return {
        "step: ResNet50 beside timm's": Part(lambda _: steps.peer_resnet(device), "timm", whole=False),
        "step: U-Nets beside MONAI's": Part(lambda _: steps.peer_unet(device), "MONAI", facts=sizes, whole=False),
    }


def _rest() -> dict[str, Part]:
    found = {
        "reading, files in memory": Part(reads.ways, "a JPEG an image", facts=lambda: reads.NOTE),
        "reading, files dropped from memory": Part(
            partial(reads.ways, cold=True), "a JPEG an image", facts=lambda: reads.NOTE
        ),
    }
    for number in (1_000, 3_000):
        found[f"pairs alike: {number:,} thumbnails"] = Part(lambda _, n=number: pairs.alike(n), "every pixel", 3)
    found["pairs alike: growth"] = Part(lambda _: pairs.growth(1_000, 3_000, 10_000), "1,000 thumbnails", 3)
    found["intervals of 1,000,000 predictions"] = Part(lambda _: pairs.intervals(), "rows drawn", 3)
    found["import"] = Part(lambda _: starts.imports(), "torch", 3)
    found["--help"] = Part(lambda _: starts.helps(), "python")
    return found
