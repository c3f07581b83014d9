"""Checks of the models' arguments and inputs, in one place, so that each model file is only its architecture."""

import difflib
from collections.abc import Iterable

from torch import Tensor


def check_arguments(num_classes: int, in_channels: int, image_size: int, multiple: int = 1, least: int = 64) -> None:
    """Raise `ValueError`, naming argument, value and what is accepted, unless there are at least 2 classes, 1 to 4
    channels (grey, …, RGB, four MRI sequences), and a side of at least `least` pixels that `multiple` divides."""
    if num_classes < 2:
        raise ValueError(
            f"num_classes={num_classes}: a classifier needs at least 2; unlabelled images can be segmented only"
        )
    if not 1 <= in_channels <= 4:
        raise ValueError(f"in_channels={in_channels}: 1 to 4 are accepted")
    if image_size < least or image_size % multiple:  # below 64 pooling leaves nothing to classify
        rule = f" that {multiple} divides" if multiple > 1 else ""
        raise ValueError(f"image_size={image_size}: a side of at least {least} pixels{rule} is accepted")


def check_sizes(**sizes: int) -> None:
    """Raise `ValueError`, by name, unless all are at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1 is accepted")


def check_batch(x: Tensor, in_channels: int, image_size: int = 0) -> None:
    """Raise `ValueError` unless `x` is B × `in_channels` × `image_size` × `image_size`; 0: H × W, which 16 divides."""
    if x.ndim != 4 or x.shape[1] != in_channels or (image_size and set(x.shape[2:]) != {image_size}):
        shape, sides = "×".join(map(str, x.shape)), f"{image_size}×{image_size}" if image_size else "H×W"
        raise ValueError(f"input of shape {shape}: this model was built for B×{in_channels}×{sides}")
    if not image_size and (x.shape[2] % 16 or x.shape[3] % 16):
        raise ValueError(f"input of {x.shape[2]}×{x.shape[3]} pixels: 16 must divide both sides")


def check_name(name: str, known: Iterable[str], what: str, listed: str = "") -> None:
    """Raise `ValueError` with the nearest name, and with all there are or `listed`, unless `name` is among `known`."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise ValueError(f"unknown {what} '{name}'{hint} Known: {listed or ', '.join(known)}")
