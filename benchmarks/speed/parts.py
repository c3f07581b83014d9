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

CLASSIFIERS = ("CustomCNN", "ViT", "ResNet50", "MobileNetV2", "ResNet50-v2")
UNETS = ("ClassicUNet", "ImprovedUNet", "AttentionUNet")


class Part(NamedTuple):
    """A benchmark: its sides, made when it runs, the one that the others are compared with, and how many rounds."""

    sides: Callable[[Path], dict[str, Callable]]
    base: str
    rounds: int = 5


def parts() -> dict[str, Part]:
    """Name → benchmark, in the order of the page."""
    found = {}
    for name in CLASSIFIERS:
        found[f"step: {name}"] = Part(lambda _, n=name: steps.classification(n, n == "CustomCNN"), "plain")
    for name in UNETS:
        found[f"step: {name}"] = Part(lambda _, n=name: steps.segmentation(n), "plain")
    found["step: ResNet50 beside timm's"] = Part(lambda _: steps.peer_resnet(), "timm")
    found["step: U-Nets beside MONAI's of as many parameters"] = Part(lambda _: steps.peer_unet(), "MONAI")
    found["epoch: classification"] = Part(loops.classification, "S2's manner", 3)
    found["epoch: segmentation"] = Part(loops.segmentation, "S2's manner", 3)
    found["reading, files in memory"] = Part(reads.ways, "a JPEG an image")
    found["reading, files dropped from memory"] = Part(partial(reads.ways, cold=True), "a JPEG an image")
    for number in (1_000, 3_000):
        found[f"pairs alike: {number:,} thumbnails"] = Part(lambda _, n=number: pairs.alike(n), "every pixel", 3)
    found["pairs alike: growth"] = Part(lambda _: pairs.growth(1_000, 3_000, 10_000), "1,000 thumbnails", 3)
    found["intervals of 1,000,000 predictions"] = Part(lambda _: pairs.intervals(), "rows drawn", 3)
    found["import"] = Part(lambda _: starts.imports(), "torch", 3)
    found["--help"] = Part(lambda _: starts.helps(), "python")
    return found
