"""What every model asks of its arguments, in one place, so that each model file is only its architecture."""

from collections.abc import Iterable

import torch

SMALLEST = 64  # below this the pooling leaves nothing to classify


def check_arguments(num_classes: int, in_channels: int, image_size: int, multiple: int = 1) -> None:
    """Refuse sizes that the architecture cannot take.

    Args:
        num_classes: at least 2.
        in_channels: 1 to 4 (grey, …, RGB, four MRI sequences).
        image_size: side of the square input in pixels, at least 64 and divisible by `multiple`.

    Raises:
        ValueError: naming the argument, its value and what is accepted.
    """
    if num_classes < 2:
        raise ValueError(
            f"num_classes={num_classes}: a classifier needs at least 2; unlabelled images can be segmented only"
        )
    if not 1 <= in_channels <= 4:
        raise ValueError(f"in_channels={in_channels}: 1 to 4 are accepted")
    if image_size < SMALLEST or image_size % multiple:
        rule = f" that {multiple} divides" if multiple > 1 else ""
        raise ValueError(f"image_size={image_size}: a side of at least {SMALLEST} pixels{rule} is accepted")


def check_batch(x: torch.Tensor, in_channels: int, image_size: int) -> None:
    """Raise `ValueError` unless `x` is B × `in_channels` × `image_size` × `image_size`."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (in_channels, image_size, image_size):
        wanted = f"B×{in_channels}×{image_size}×{image_size}"
        raise ValueError(f"input of shape {'×'.join(map(str, x.shape))}: this model was built for {wanted}")


def check_sizes(**sizes: int) -> None:
    """Raise `ValueError`, by name, unless all are at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1 is accepted")


def check_maps(x: torch.Tensor, in_channels: int, multiple: int = 16) -> None:
    """Raise `ValueError` unless `x` is B × `in_channels` × H × W with sides that `multiple` divides."""
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"input of shape {'×'.join(map(str, x.shape))}: this model was built for B×{in_channels}×H×W")
    if x.shape[2] % multiple or x.shape[3] % multiple:
        raise ValueError(f"input of {x.shape[2]}×{x.shape[3]} pixels: {multiple} must divide both sides")


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Raise `ValueError`, which lists the names there are, unless `name` is among `known`."""
    if name not in known:
        raise ValueError(f"unknown {what} '{name}'. Known: {', '.join(known)}")
