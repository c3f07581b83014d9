"""What an augmentation does to an image: no class of it is lost, and S2's jitter is torchvision's."""

import torch
from torchvision.transforms import v2

from utils.training.augmentation import AUGMENTATIONS


def half_black(images: int = 64) -> torch.Tensor:
    x = torch.rand(images, 1, 32, 32)
    x[:, :, 8:24, 8:24] = 0  # in the middle, which a turn by ten degrees leaves where it is
    return x


def test_s2s_jitter_keeps_black_nearly_black_and_the_stronger_one_does_not():
    torch.manual_seed(0)
    x = half_black()
    theirs = torch.stack([v2.ColorJitter(brightness=0.2, contrast=0.2)(image) for image in x])[:, 0, 14:18, 14:18]
    ours, stronger = (AUGMENTATIONS[name]()(x)[:, 0, 14:18, 14:18] for name in ("s2-jitter", "s2"))
    limit = 0.2 * 1.2 * x.mean((1, 2, 3)).max()  # of an image blended with its mean
    assert theirs.max() <= limit and ours.max() <= limit and ours.max() > 0.5 * limit
    assert (stronger.mean((1, 2)) > limit).float().mean() > 0.2


def test_s3_never_turns_an_image_upside_down_and_s4_does():
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, :8] = 1  # bright above
    torch.manual_seed(0)
    below = {name: AUGMENTATIONS[name]()(x)[:, 0, 24:].mean((1, 2)) > 0.5 for name in ("s3", "s3-tta", "s4")}
    assert not below["s3"].any() and not below["s3-tta"].any() and 10 < below["s4"].sum() < 54
