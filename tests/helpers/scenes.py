"""Small images for the tests of preprocessing, packing, traits and views."""

from pathlib import Path

import numpy as np

from datasets.store import preprocess
from datasets.store.preprocess import RawImage


def scene(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """A black 200×200 image with bright boxes (top, bottom, left, right, value)."""
    image = np.zeros((200, 200), np.uint8)
    for top, bottom, left, right, value in boxes:
        image[top:bottom, left:right] = value
    return image


def disc(background=0, side=64, seed=0):
    """A bright disc with texture on a plain background, uint8."""
    y, x = np.mgrid[:side, :side] - side / 2
    noise = np.random.default_rng(seed).integers(60, 200, (side, side))
    return np.where(x**2 + y**2 < (side / 3) ** 2, noise, background).astype(np.uint8)


def read_png(folder: Path, path: str) -> list[RawImage]:
    """The image `path` of `folder`, with a mask of what is brighter than 100; here, since workers import it."""
    image = preprocess.decode((folder / path).read_bytes())
    return [RawImage(image, (image[..., None] > 100).astype(np.uint8), {"height": len(image)})]
