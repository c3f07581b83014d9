"""An image for the tests of traits and views."""

import numpy as np


def disc(background=0, side=64, seed=0):
    """A bright disc with texture on a plain background, uint8."""
    y, x = np.mgrid[:side, :side] - side / 2
    noise = np.random.default_rng(seed).integers(60, 200, (side, side))
    return np.where(x**2 + y**2 < (side / 3) ** 2, noise, background).astype(np.uint8)
