"""The parts of `make bench`: training (`steps.py`, `loops.py`), reading, and the search for images that are alike."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import loops
import numpy as np
import steps
import torch
from PIL import Image

from datasets.curation.duplicates import pairs_alike
from datasets.store.images import ImageDataset
from datasets.transforms import TRANSFORMS

IMAGES, BATCH = 256, 32  # read
READ = {"note": "Of our store one of four sequences is read, kept without loss; a JPEG is the same one, with loss."}
SIDE, THRESHOLD = 48, 0.93  # of thumbnails alike
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
        "pairs alike: 1,000 thumbnails": Part(lambda _: alike(1_000), "every pixel", 3),
        "pairs alike: 3,000 thumbnails": Part(lambda _: alike(3_000), "every pixel", 3),
    }


def reading(folder: Path) -> Sides:
    """Sides: one pass over phantom images of 128 pixels in random order, from a JPEG each and from our store."""
    order = np.random.default_rng(0).permutation(IMAGES)
    grey = ImageDataset("phantom", np.arange(IMAGES), image_size=128).batch(range(IMAGES))["image"][:, 0].numpy()
    paths = [folder / f"{i}.jpg" for i in range(IMAGES)]
    for image, path in zip(grey, paths, strict=True):
        Image.fromarray(image).save(path, quality=95)

    def in_chunks() -> None:
        data = ImageDataset("phantom", np.arange(IMAGES), image_size=128, in_memory=False)
        for start in range(0, IMAGES, BATCH):
            data.batch(order[start : start + BATCH])

    return {"a JPEG an image": lambda: [np.asarray(Image.open(paths[i])) for i in order], "our store": in_chunks}


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


def alike(number: int) -> Sides:
    """Sides: every pixel of all pairs under 8 transforms, and our search, which finds as many by a bound first."""
    small = thumbnails(number)
    sides = {"every pixel": partial(every_pixel, small)}
    sides["bound first"] = lambda: len(pairs_alike(small, None, THRESHOLD))
    assert sides["every pixel"]() == sides["bound first"]()
    return sides
