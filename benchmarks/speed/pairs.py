"""Parts of `make bench`: pairs of images alike among N thumbnails, and intervals of a million predictions."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from datasets.curation.duplicates import pairs_alike
from datasets.transforms import TRANSFORMS
from utils.evaluation.intervals import grouped_bootstrap_ci, mean_interval

SIDE, THRESHOLD = 48, 0.93


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
    """Pairs by the product of all pixels, as before there was a bound; returns how many, turned ones each."""
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


def alike(number: int) -> dict[str, Callable]:
    """Sides: every pixel of all pairs under 8 transforms, and the bound first."""
    small = thumbnails(number)
    assert bound_first(small) == every_pixel(small)
    return {"every pixel": partial(every_pixel, small), "bound first": partial(bound_first, small)}


def growth(*numbers: int) -> dict[str, Callable]:
    """Sides: the bound first, for several numbers of thumbnails."""
    return {f"{number:,} thumbnails": partial(bound_first, thumbnails(number)) for number in numbers}


def intervals(predictions: int = 1_000_000, groups: int = 50_000, resamples: int = 20) -> dict[str, Callable]:
    """Sides: the interval of an accuracy when rows are drawn, and when sums of groups are (`mean_interval`)."""
    rng = np.random.default_rng(0)
    right, group = (rng.random(predictions) < 0.9).astype(float), rng.integers(0, groups, predictions)
    rows = lambda: grouped_bootstrap_ci(group, lambda drawn: {"mean": right[drawn].mean()}, resamples)  # noqa: E731
    return {"rows drawn": rows, "sums of groups drawn": lambda: mean_interval(right, group, resamples)}
