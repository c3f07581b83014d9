"""The parts of `make bench`: what is timed, beside what. Those of how long commands take to start are here."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import loops
import pairs
import reads
import steps

from datasets.catalog import REPO

NETWORKS = ("CustomCNN", "AlexNet", "ViT", "ResNet50", "MobileNetV2", "ResNet50-v2")
NETWORKS += ("ClassicUNet", "ImprovedUNet", "AttentionUNet")
COMPILED = {"cpu": ("CustomCNN",), "cuda": ("CustomCNN", "ViT", "ResNet50")}
IMPORTED = ("torch", "torchmetrics", "timm", "monai")
IMPORTED += ("datasets.download", "utils.training.loop", "utils.training.tasks", "utils.predict.command")
COMMANDS = ("datasets.download", "datasets.curation", "utils.headless", "utils.chapters", "utils.predict")
COMMANDS += ("utils.report.plan", "utils.app")


class Part(NamedTuple):
    """A benchmark.

    Attributes:
        sides: folder for files → name → what is timed, made when the part runs.
        base: the side that the others are compared with.
        rounds: how many.
        facts: what else is known of it, for the record.
        whole: calls are timed one by one, however short.
    """

    sides: Callable[[Path], dict[str, Callable]]
    base: str
    rounds: int = 5
    facts: Callable[[], dict] = dict
    whole: bool = True


def parts(device: str) -> dict[str, Part]:
    """Name → benchmark, in the order of the page; on a GPU the parts that need one."""
    size = partial(dict, flop=2 * steps.PRODUCT[device] ** 3, side=steps.PRODUCT[device])
    found = {"matrix product": Part(lambda _: steps.products(device), "float32", facts=size, whole=False)}
    for name in NETWORKS:
        sides, facts = lambda _, n=name: steps.ways(n, device), partial(steps.facts, name, device)
        found[f"step: {name}"] = Part(sides, "plain", facts=facts, whole=False)
    epoch = partial(loops.classification, device)
    found["epoch: classification"] = Part(epoch, "S2's manner", 3, facts=lambda: loops.NOTE)
    if device == "cpu":
        found["epoch: segmentation"] = Part(partial(loops.segmentation, device), "S2's manner", 3)
    sizes = partial(steps.sizes, device)
    found["step: ResNet50 beside timm's"] = Part(lambda _: steps.peer_resnet(device), "timm", whole=False)
    found["step: U-Nets beside MONAI's"] = Part(lambda _: steps.peer_unet(device), "MONAI", facts=sizes, whole=False)
    for name in COMPILED[device]:
        found[f"compiled step: {name}"] = Part(lambda _, n=name: steps.compiled(n, device), "plain", whole=False)
    if device != "cpu":
        return found
    for name, dropped in (("in memory", False), ("dropped from memory", True)):
        sides = partial(reads.ways, dropped=dropped)
        found[f"reading, files {name}"] = Part(sides, "a JPEG an image", facts=lambda: reads.NOTE)
    for number in (1_000, 3_000):
        found[f"pairs alike: {number:,} thumbnails"] = Part(lambda _, n=number: pairs.alike(n), "every pixel", 3)
    found["pairs alike: growth"] = Part(lambda _: pairs.growth(1_000, 3_000, 10_000), "1,000 thumbnails", 3)
    found["intervals of 1,000,000 predictions"] = Part(lambda _: pairs.intervals(), "rows drawn", 3)
    found["import"] = Part(lambda _: {name: python("-c", f"import {name}") for name in IMPORTED}, "torch", 3)
    found["--help"] = Part(helps, "python")
    return found


def in_order(every: dict[str, Part]) -> list[str]:
    """Names in the order of measuring: what takes longest for what it tells comes last, where time may be over."""
    late = [name for name in every if "compiled" in name or name.removeprefix("step: ") in steps.DEPTHWISE]
    return [name for name in every if name not in late] + late


def python(*words: str) -> Callable[[], None]:
    """A process of Python that must end well; its output goes nowhere."""
    how = {"check": True, "cwd": REPO, "env": os.environ | {"PYTHONPATH": str(REPO)}, "stdout": subprocess.DEVNULL}
    return lambda: subprocess.run([sys.executable, *words], **how)


def helps(_folder: Path) -> dict[str, Callable]:
    """Sides: `--help` of commands beside Python alone."""
    return {"python": python("-c", "")} | {name: python("-m", name, "--help") for name in COMMANDS}
