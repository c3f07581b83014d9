"""Augmentations, random changes of training images, by the name that recipes use.

kornia's `RandomBrightness` adds to every pixel and its `RandomContrast` multiplies. The projects' libraries multiply
for brightness and, for contrast, blend an image with its mean, which hardly changes a black background. So "s0", "s2"
and "s3" jitter more strongly than their projects did; "s2-jitter" is S2's own, and `claims.jitter` compares the two.
"""

import kornia.augmentation as K

# kornia draws one transform an image for the whole batch at once: measured 5 to 8 times as fast as
# torchvision v2 image by image (batch of 64 at 128 pixels, 2 threads).
AUGMENTATIONS = {
    "none": lambda: None,
    "flip": lambda: K.AugmentationSequential(K.RandomHorizontalFlip(p=0.5), data_keys=["input"]),
    "s2": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomRotation(10.0, p=1.0),
        K.RandomBrightness((0.8, 1.2), p=1.0),
        K.RandomContrast((0.8, 1.2), p=1.0),
        data_keys=["input"],
    ),
    "s2-jitter": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomRotation(10.0, p=1.0),
        K.ColorJitter(brightness=0.2, contrast=0.2, p=1.0),
        data_keys=["input"],
    ),
    "s0": lambda: K.AugmentationSequential(
        K.RandomAffine(10.0, translate=(0.02, 0.02), scale=(0.95, 1.05), p=1.0),
        K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=0.2),
        K.RandomBrightness((0.9, 1.1), p=1.0),
        K.RandomContrast((0.9, 1.1), p=1.0),
        data_keys=["input"],
    ),
    # S3 says shear ±10 %: the angle whose tangent is .1. No image is turned upside down.
    "s3": lambda: K.AugmentationSequential(
        K.RandomAffine(15.0, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5.71, p=1.0),
        K.RandomHorizontalFlip(p=0.5),
        K.RandomBrightness((0.85, 1.15), p=1.0),
        data_keys=["input"],
    ),
    "s3-tta": lambda: K.AugmentationSequential(
        K.RandomAffine(10.0, translate=(0.05, 0.05), scale=(0.95, 1.05), p=1.0),
        K.RandomHorizontalFlip(p=0.5),
        data_keys=["input"],
    ),
    "mirrored": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(10.0, translate=(0.04, 0.04), scale=(0.9, 1.1), p=1.0),
        K.RandomBrightness((0.85, 1.15), p=1.0),
        K.RandomContrast((0.85, 1.15), p=1.0),
        data_keys=["input"],
    ),
    # Publishers turned a part of their images by whole quarters: every orientation of a slice is a valid one.
    "turned": lambda: K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomVerticalFlip(p=0.5),
        K.RandomRotation90(times=(0, 1), p=1.0),
        K.RandomAffine(15.0, translate=(0.06, 0.06), scale=(0.85, 1.15), p=1.0),
        K.RandomBrightness((0.8, 1.2), p=1.0),
        K.RandomContrast((0.8, 1.2), p=1.0),
        data_keys=["input"],
    ),
    "mirror": lambda: K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=["input"]),
    "s4": lambda: K.AugmentationSequential(  # "flips": both
        K.RandomHorizontalFlip(p=0.5),
        K.RandomVerticalFlip(p=0.5),
        K.RandomAffine(0.0, scale=(0.9, 1.1), p=1.0),
        data_keys=["input"],
    ),
}
