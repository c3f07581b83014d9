"""Finds all pairs of thumbnails that correlate, under the 8 flips and rotations: exact, at a seventh of the arithmetic.

A thumbnail is smooth, so that its low cosine frequencies hold nearly all of it. For unit vectors x = (p, q) and
y = (r, s), divided into low and high frequencies, Cauchy and Schwarz give x·y ≤ p·r + |q|·|s|. Only pairs whose bound
reaches the threshold are compared pixel by pixel; none that would reach it is passed over.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import dct

from datasets.transforms import TRANSFORMS

LOW = 3 / 8  # of the frequencies along each axis; with a quarter so many pairs are left that it takes 4 times as long
BLOCK = 512  # rows that are compared with all at a time
CHUNK = 4096  # pairs that are compared pixel by pixel at a time: bounds the memory, however many pairs are alike
ROUNDING = 1e-5  # by which a bound of float32 may be too low


class Alike(NamedTuple):
    """Pairs of thumbnails that correlate.

    Attributes:
        i, j: int64 P, rows of the first and of the second set.
        transform: int64 P, which of `TRANSFORMS` turns j into i.
        correlation: float32 P.
    """

    i: np.ndarray
    j: np.ndarray
    transform: np.ndarray
    correlation: np.ndarray


def pairs_alike(a: np.ndarray, b: np.ndarray | None, correlation: float) -> Alike:
    """All pairs whose thumbnails correlate by at least `correlation` under one of the 8 transforms of the second.

    Args:
        a, b: float32 N×S×S and M×S×S of unit length (or 0); without `b`, pairs i < j of `a`.

    Returns a pair once for every transform under which it correlates, transform by transform. Time grows with N·M:
    benchmarks/speed/pairs.py says how long it takes.
    """
    within, b = b is None, a if b is None else b
    found = []
    ours = torch.from_numpy(_sketch(a))
    for t, turn in enumerate(TRANSFORMS.values()):
        turned = turn(b)
        theirs = torch.from_numpy(_sketch(turned)).T.contiguous()
        for start in range(0, len(a), BLOCK):
            first = start if within else 0
            bound = (ours[start : start + BLOCK] @ theirs[:, first:]).numpy()
            i, j = np.divmod(np.flatnonzero(bound.ravel() >= correlation - ROUNDING), bound.shape[1])
            i, j = i + start, j + first
            i, j = (i[i < j], j[i < j]) if within else (i, j)
            value = correlations(a, turned, i, j)
            kept = value >= correlation
            found.append(Alike(i[kept], j[kept], np.full(kept.sum(), t), value[kept]))
    if not found:
        return Alike(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, np.float32)))
    return Alike(*map(np.concatenate, zip(*found, strict=True)))


def correlations(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Correlation of a[i[k]] and b[j[k]] for every k, float32; a and b are float32 N×S×S and M×S×S of unit length."""
    out = np.empty(len(i), np.float32)
    for start in range(0, len(i), CHUNK):
        part = slice(start, start + CHUNK)
        pair = (x[rows[part]].reshape(len(rows[part]), -1) for x, rows in ((a, i), (b, j)))
        out[part] = np.einsum("nd,nd->n", *pair)
    return out


def _sketch(thumbnails: np.ndarray) -> np.ndarray:
    """Low frequencies of thumbnails N×S×S and the length of what they leave out, N×((`LOW`·S)² + 1)."""
    side = thumbnails.shape[-1]
    rows = dct(np.eye(side), axis=0, norm="ortho")[: int(LOW * side)].astype(np.float32)
    low = (rows @ np.ascontiguousarray(thumbnails) @ rows.T).reshape(len(thumbnails), len(rows) ** 2)
    left = np.einsum("nij,nij->n", thumbnails, thumbnails) - np.einsum("nd,nd->n", low, low)
    return np.concatenate([low, np.sqrt(left.clip(0))[:, None]], axis=1)
