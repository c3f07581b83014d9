"""Small heads and blobs for the tests of a reader's own sets."""

import cv2
import numpy as np

SIDE = 64


def head(seed: int, side: int = SIDE) -> np.ndarray:
    """A head of one person: an ellipse with a smooth texture of its own, uint8."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.uniform(60, 240, (6, 6)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    inside = np.zeros((side, side), np.uint8)
    cv2.ellipse(inside, (side // 2, side // 2), (side * 3 // 8, side * 7 // 16), 0, 0, 360, 1, -1)
    return np.clip(texture * inside, 0, 255).astype(np.uint8)


def blob(row: int, column: int, radius: int = 4, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (column, row), radius, 255, -1)
    return mask
