"""Small images for the tests of preprocessing and packing."""

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """A black 200×200 image with bright boxes (top, bottom, left, right, value)."""
    image = np.zeros((200, 200), np.uint8)
    for top, bottom, left, right, value in boxes:
        image[top:bottom, left:right] = value
    return image
