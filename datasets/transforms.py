"""Changes that every image of a set may undergo before a model sees it: turned back, or without traces of its source.

`ImageDataset(view=…)` applies them; `datasets/curation` finds flipped and rotated images by the same transforms.
"""

from collections.abc import Callable

import cv2
import numpy as np

VIEWS = {
    "stored": "as packed",
    "upright": "turned back where the publisher turned it, see `store.index.turns`",
    "levelled": "without background, grey scale and sharpness of its source, see `level`",
    "clahe": "contrast equalised tile by tile, S3's preparation, see `clahe`",
}

# The 8 flips and rotations of the last two axes, by the name of what was done to the image.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda x: x,
    "flipped-lr": lambda x: x[..., ::-1],
    "flipped-ud": lambda x: x[..., ::-1, :],
    "rotated-180": lambda x: x[..., ::-1, ::-1],
    "transposed": lambda x: x.swapaxes(-1, -2),
    "rotated-90": lambda x: x.swapaxes(-1, -2)[..., ::-1, :],
    "rotated-270": lambda x: x.swapaxes(-1, -2)[..., ::-1],
    "anti-transposed": lambda x: x.swapaxes(-1, -2)[..., ::-1, ::-1],
}


def turn(image: np.ndarray, transform: str) -> np.ndarray:
    """An image H×W×C after a transform of `TRANSFORMS`."""
    return np.moveaxis(TRANSFORMS[transform](np.moveaxis(image, 2, 0)), 0, 2)


def undo(image: np.ndarray, transform: str) -> np.ndarray:
    """Turn an image H×W×C back after a transform of `TRANSFORMS`."""
    return turn(image, {"rotated-90": "rotated-270", "rotated-270": "rotated-90"}.get(transform, transform))


def level(image: np.ndarray) -> np.ndarray:
    """Remove from a grey image H×W what reveals its source and shows no anatomy: the background becomes 0, the head's
    grey values are spread evenly, and a 5×5 blur hides sharpness and JPEG blocks.
    """
    smooth = cv2.GaussianBlur(np.ascontiguousarray(image), (5, 5), 0)
    inside = head_mask(smooth)
    grey = np.bincount(smooth[inside], minlength=256).cumsum()
    spread = (255 * grey / max(grey[-1], 1)).astype(np.uint8)
    return np.where(inside, spread[smooth], 0).astype(np.uint8)


def clahe(image: np.ndarray) -> np.ndarray:
    """S3's preparation of a grey image H×W uint8: contrast-limited equalisation (clip 3, 8×8 tiles) of L of LAB.

    S3 equalised after resizing to 224 pixels; here the packed image is equalised, before it is resized.
    """
    lab = cv2.cvtColor(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), cv2.COLOR_RGB2GRAY)


def head_mask(grey: np.ndarray) -> np.ndarray:
    """The head in a grey image H×W: the largest contour above half of Otsu's threshold, filled; bool H×W."""
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(np.uint8(grey > threshold / 2), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    head = np.zeros(grey.shape, np.uint8)
    if contours:
        cv2.drawContours(head, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return head.astype(bool)
