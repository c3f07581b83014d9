"""The parts of `make bench`, beside training (`steps.py`, `loops.py`): reading, curation, start-up."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import loops
import numpy as np
import steps
import torch
from PIL import Image

from datasets import catalog
from datasets.curation.duplicates import pairs_alike
from datasets.store.images import ImageDataset
from datasets.transforms import TRANSFORMS

IMPORTED = ("torch", "torchmetrics", "timm", "monai")
IMPORTED += ("datasets.download", "utils.training.loop", "utils.training.tasks", "utils.predict.verdict")
COMMANDS = ("datasets.download", "datasets.curation", "utils.headless", "utils.chapters", "utils.predict")
COMMANDS += ("utils.report.plan", "utils.app")
IMAGES, BATCH = 256, 32  # read
SIDE, THRESHOLD = 48, 0.93  # of thumbnails alike
READ = {"note": "An image of our store is four sequences without loss; a JPEG is one of them, with loss."}
Sides = dict[str, Callable]


class Part(NamedTuple):
    """A benchmark."""

    sides: Callable[[Path], Sides]  # folder for files → name → what is timed, made when the part runs
    base: str  # the side that the others are compared with
    rounds: int = 5
    facts: Callable[[], dict] = dict  # what else is known of it, for the record


def parts(device: str) -> dict[str, Part]:
    """Name → benchmark, in the order of the page; on a GPU the training steps alone."""
    found = {
        f"step: {name}": Part(
            lambda _, n=name: steps.ways(n, device), "plain", facts=partial(steps.facts, name, device)
        )
        for name in steps.NETWORKS
    }
    if device != "cpu":
        return found
    return found | {
        "epoch: classification": Part(loops.classification, "S2's manner", 3, lambda: loops.NOTE),
        "epoch: segmentation": Part(loops.segmentation, "S2's manner", 3),
        "reading, files in memory": Part(reading, "a JPEG an image", facts=lambda: READ),
        "reading, files dropped from memory": Part(partial(reading, dropped=True), "a JPEG an image", 5, lambda: READ),
        "pairs alike: 1,000 thumbnails": Part(lambda _: alike(1_000), "every pixel", 3),
        "pairs alike: 3,000 thumbnails": Part(lambda _: alike(3_000), "every pixel", 3),
        "pairs alike: growth": Part(lambda _: growth(1_000, 3_000, 10_000), "1,000 thumbnails", 3),
        "import": Part(lambda _: {name: python("-c", f"import {name}") for name in IMPORTED}, "torch", 3),
        "--help": Part(helps, "python"),
    }


def reading(folder: Path, dropped: bool = False) -> Sides:
    """Sides: one pass over phantom images of 128 pixels in random order, from a file each, from our chunked store, and
    from a tar in the order that it has.

    `dropped`: the files are dropped from memory before every pass.
    """
    order = np.random.default_rng(0).permutation(IMAGES)
    stored = ImageDataset("phantom", np.arange(IMAGES), image_size=128, channels="all").batch(range(IMAGES))["image"]
    grey = stored[:, ImageDataset("phantom", [0]).channels[0]].numpy()
    jpegs, slices = ([folder / f"{i}.{kind}" for i in range(IMAGES)] for kind in ("jpg", "h5"))
    pngs = [[folder / f"{i}_{channel}.png" for channel in range(stored.shape[1])] for i in range(IMAGES)]
    with tarfile.open(folder / "images.tar", "w") as tar:
        for i, image in enumerate(grey):
            Image.fromarray(image).save(jpegs[i], quality=95)
            tar.add(jpegs[i], jpegs[i].name)
            with h5py.File(slices[i], "w") as store:
                store["image"] = image.astype(np.float64)
            for path, channel in zip(pngs[i], stored[i].numpy(), strict=True):
                Image.fromarray(channel).save(path)

    def in_a_tar() -> None:
        with tarfile.open(folder / "images.tar") as tar:
            for member in tar:
                np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))

    def in_files() -> None:
        for i in order:
            with h5py.File(slices[i]) as store:
                store["image"][()]

    def in_chunks() -> None:
        data = ImageDataset("phantom", np.arange(IMAGES), image_size=128, in_memory=False)
        for start in range(0, IMAGES, BATCH):
            data.batch(order[start : start + BATCH])

    sides = {
        "a JPEG an image": lambda: [np.asarray(Image.open(jpegs[i])) for i in order],
        "an HDF5 file an image": in_files,
        "JPEGs in a tar": in_a_tar,
        "four PNGs an image": lambda: [np.stack([np.asarray(Image.open(path)) for path in pngs[i]]) for i in order],
        "our store": in_chunks,
    }

    def cold(work: Callable) -> None:
        """`work`, after the system was asked to drop what it holds of the files in memory."""
        for path in [*folder.iterdir(), catalog.dataset_dir("phantom") / "images.h5"]:
            with path.open("rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        work()

    return {name: partial(cold, work) for name, work in sides.items()} if dropped else sides


def thumbnails(number: int) -> np.ndarray:
    """Random thumbnails, about as smooth as those of heads: amplitude falls with the frequency; of unit length."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    out = np.empty((number, SIDE, SIDE), np.float32)
    for i in range(number):
        noise = np.fft.fft2(rng.normal(size=(SIDE, SIDE)))
        out[i] = np.fft.ifft2(noise / (frequency + 0.02) ** 1.5).real
    out -= out.mean((1, 2), keepdims=True)
    return out / np.linalg.norm(out, axis=(1, 2), keepdims=True)


def every_pixel(small: np.ndarray) -> int:
    """Number of pairs alike by the product of all pixels, as before there was a bound; turned ones each."""
    mine, found = torch.from_numpy(small.reshape(len(small), -1)), 0
    for turn in TRANSFORMS.values():
        other = torch.from_numpy(np.ascontiguousarray(turn(small)).reshape(len(small), -1))
        for start in range(0, len(small), 512):
            i, j = (mine[start : start + 512] @ other[start:].T >= THRESHOLD).nonzero(as_tuple=True)
            found += int((i < j).sum())
    return found


def bound_first(small: np.ndarray) -> int:
    """The same by our search."""
    return len(pairs_alike(small, None, THRESHOLD))


def alike(number: int) -> Sides:
    """Sides: every pixel of all pairs under 8 transforms, and the bound first."""
    small = thumbnails(number)
    assert bound_first(small) == every_pixel(small)
    return {"every pixel": partial(every_pixel, small), "bound first": partial(bound_first, small)}


def growth(*numbers: int) -> Sides:
    """Sides: the bound first, for several numbers of thumbnails."""
    return {f"{number:,} thumbnails": partial(bound_first, thumbnails(number)) for number in numbers}


def python(*words: str) -> Callable[[], None]:
    """A process of Python that must end well; its output goes nowhere."""
    environment = os.environ | {"PYTHONPATH": str(catalog.REPO)}
    args = {"check": True, "cwd": catalog.REPO, "env": environment, "stdout": subprocess.DEVNULL}
    return lambda: subprocess.run([sys.executable, *words], **args)


def helps(_folder: Path) -> Sides:
    """Sides: `--help` of commands beside Python alone."""
    return {"python": python("-c", "")} | {name: python("-m", name, "--help") for name in COMMANDS}
