"""Augmentations, random changes of training images, by the name that recipes use.

kornia's `RandomBrightness` adds to every pixel and its `RandomContrast` multiplies. The projects' libraries multiply
for brightness and, for contrast, blend an image with its mean, which hardly changes a black background. So "s0", "s2"
and "s3" jitter more strongly than their projects did; "s2-jitter" and "s3-code" are the projects' own, and chapter 3
compares S2's two.
"""

from functools import partial

import kornia.augmentation as K

# kornia draws one transform an image for the whole batch at once: measured 5 to 8 times as fast as torchvision v2 image
# by image (batch of 64 at 128 pixels, 2 threads).
chain = partial(K.AugmentationSequential, data_keys=["input"])
flip, upside_down = partial(K.RandomHorizontalFlip, p=0.5), partial(K.RandomVerticalFlip, p=0.5)
turn = partial(K.RandomRotation, 10.0, p=1.0)


def affine(degrees: float, shift: float, zoom: float, **other: float) -> K.RandomAffine:
    """Turned by up to `degrees`, shifted by up to the share `shift` of a side, scaled by up to 1 ± `zoom`."""
    shifts = (shift, shift) if shift else None
    return K.RandomAffine(degrees, translate=shifts, scale=(1 - zoom, 1 + zoom), p=1.0, **other)


def brightness(most: float) -> K.RandomBrightness:
    return K.RandomBrightness((1 - most, 1 + most), p=1.0)


def jitter(most: float) -> tuple[K.RandomBrightness, K.RandomContrast]:
    """Brightness and contrast, each changed by up to the share `most`."""
    return brightness(most), K.RandomContrast((1 - most, 1 + most), p=1.0)


AUGMENTATIONS = {
    "none": lambda: None,
    "flip": lambda: chain(flip()),
    "s2": lambda: chain(flip(), turn(), *jitter(0.2)),
    "s2-jitter": lambda: chain(flip(), turn(), K.ColorJitter(brightness=0.2, contrast=0.2, p=1.0)),
    "s0": lambda: chain(affine(10.0, 0.02, 0.05), K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=0.2), *jitter(0.1)),
    # S3 says shear ±10 %: the angle whose tangent is .1. No image is turned upside down.
    "s3": lambda: chain(affine(15.0, 0.1, 0.1, shear=5.71), flip(), brightness(0.15)),
    # S3's code. Its shear of .2 is an angle in degrees, which Keras asks for, and left out.
    "s3-code": lambda: chain(affine(20.0, 0.2, 0.2), flip(), upside_down(), K.ColorJitter(brightness=0.2, p=1.0)),
    "s3-tta": lambda: chain(affine(10.0, 0.05, 0.05), flip()),
    "mirrored": lambda: chain(flip(), affine(10.0, 0.04, 0.1), *jitter(0.15)),
    # Publishers turned a part of their images by whole quarters: every orientation of a slice is a valid one.
    "turned": lambda: chain(
        flip(), upside_down(), K.RandomRotation90(times=(0, 1), p=1.0), affine(15.0, 0.06, 0.15), *jitter(0.2)
    ),
    # Of no scanner or publisher in particular: sharpness, noise and the curve of greys change as well, as in stacked
    # transformations (Zhang et al. 2020, arXiv:1906.03347), so that a source is harder to recognise.
    "scanner": lambda: chain(
        *(flip(), upside_down(), K.RandomRotation90(times=(0, 1), p=1.0), affine(15.0, 0.1, 0.3), *jitter(0.2)),
        K.RandomGamma((0.5, 2.0), p=0.5),
        K.RandomGaussianBlur((9, 9), (0.25, 1.5), p=0.5),
        K.RandomGaussianNoise(std=0.05, p=0.5),
    ),
    "mirror": lambda: chain(K.RandomHorizontalFlip(p=1.0)),
    "s4": lambda: chain(flip(), upside_down(), affine(0.0, 0.0, 0.1)),  # "flips": both
    "s4-code": lambda: chain(flip(), affine(0.0, 0.0, 0.1)),
}
