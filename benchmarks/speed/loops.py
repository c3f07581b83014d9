"""Parts of `make bench`: an epoch by `fit` beside loops in the manner of S0 and S2, on the same phantom images.

The loops are ours, written from what is known of the sources: one image at a time, from a file each, in the process
that trains. Model, batch, optimiser, number of images and validation are the same on all sides.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import SEGMENTERS, CustomCNN
from utils.recipes import get_recipe
from utils.training.loop import fit, make_accelerator
from utils.training.tasks import Classification, Segmentation

SIDE = 128
IMAGES, SLICES = 640, 64  # that many are trained on, a quarter as many are validated
NOTE = {
    "note": "640 images are trained on and 160 validated, the same on all sides. The files are phantom images enlarged "
    "to 512 pixels, which are smoother than scans: reading may weigh more with those."
}
TENSOR = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
AS_S2 = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(10), v2.ColorJitter(0.2, 0.2), *TENSOR])
AS_S0 = v2.Compose(
    [
        v2.RandomAffine(10, translate=(0.02, 0.02), scale=(0.95, 1.05)),
        v2.RandomApply([v2.GaussianBlur(3, (0.1, 1.0))], 0.2),
        v2.ColorJitter(0.1, 0.1),
        *TENSOR,
    ]
)
PLAIN = v2.Compose(TENSOR)


class Files(Dataset):
    """A JPEG an image, opened when it is asked for."""

    def __init__(self, paths: list[Path], labels: torch.Tensor, transform: Callable):
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(self.paths[i]).convert("RGB").resize((SIDE, SIDE))
        return self.transform(image), self.labels[i]


class Slices(Dataset):
    """An HDF5 file a slice, float64 image and mask, scaled channel by channel when it is asked for."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        with h5py.File(self.paths[i]) as file:
            image, mask = file["image"][()], file["mask"][()]
        for channel in range(image.shape[2]):
            low, high = image[..., channel].min(), image[..., channel].max()
            image[..., channel] = (image[..., channel] - low) / max(high - low, 1e-6)
        return torch.tensor(image, dtype=torch.float32).permute(2, 0, 1), torch.tensor(mask).permute(2, 0, 1).float()


def plain_epoch(net: nn.Module, loss: nn.Module, train: Dataset, val: Dataset, batch: int, device: str) -> None:
    """One epoch as the sources write it: train, then validate; files are read in the process that trains."""
    net = net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    net.train()
    for inputs, targets in DataLoader(train, batch_size=batch, shuffle=True):
        optimizer.zero_grad()
        value = loss(net(inputs.to(device)), targets.to(device))
        value.backward()
        optimizer.step()
        value.item()
    net.eval()
    with torch.no_grad():
        for inputs, targets in DataLoader(val, batch_size=batch):
            loss(net(inputs.to(device)), targets.to(device)).item()


def by_fit(model: Callable, task: Callable, train: ImageDataset, val: ImageDataset, recipe, precision: str) -> Callable:
    """The same epoch by `fit`, with its checkpoint and its metrics, on the GPU where there is one."""

    def work() -> None:
        AcceleratorState._reset_state()  # a process has one precision: here it is another from side to side
        folder = Path(tempfile.mkdtemp())
        fit(model(), task(), train, val, recipe, folder=folder, accelerator=make_accelerator(precision))
        shutil.rmtree(folder)

    return work


def parts_of_phantom(images: int, **settings: object) -> tuple[ImageDataset, ImageDataset]:
    """Training and validation images of the phantom; images come again where more are wanted than it has."""
    split = make_split("phantom", "patient")
    some = np.resize(split.train, images), np.resize(split.val, images // 4)
    return tuple(ImageDataset("phantom", rows, image_size=SIDE, **settings) for rows in some)


def classification(device: str, folder: Path) -> dict[str, Callable]:
    """Sides: CustomCNN by S0's manner, by S2's, by `fit`, and by `fit` in bf16."""
    train, val = parts_of_phantom(IMAGES)
    files = []
    for name, part in (("train", train), ("val", val)):
        (folder / name).mkdir(parents=True)
        images = part.batch(range(len(part)))["image"][:, 0].numpy()
        paths = [folder / name / f"{row}.jpg" for row in part.rows]
        for path, image in dict(zip(paths, images, strict=True)).items():
            Image.fromarray(image).resize((512, 512)).save(path)  # about as large as the publisher's
        files.append((paths, part.labels))
    recipe = replace(get_recipe("s2", "CustomCNN"), epochs=1)

    def loop(augmented: Callable) -> Callable:
        sets = Files(*files[0], augmented), Files(*files[1], PLAIN)
        return lambda: plain_epoch(CustomCNN(), nn.CrossEntropyLoss(), *sets, recipe.batch_size, device)

    def fitted(precision: str) -> Callable:
        task = lambda: Classification(len(train.classes), 3, recipe.augmentation)  # noqa: E731
        return by_fit(CustomCNN, task, train, val, recipe, precision)

    sides = {"S2's manner": loop(AS_S2), "S0's manner": loop(AS_S0), "fit": fitted("no"), "fit, bf16": fitted("bf16")}
    if device != "cpu":
        del sides["S0's manner"]  # reading is on the processor there, too, and the time is short
    return sides


def segmentation(device: str, folder: Path) -> dict[str, Callable]:
    """Sides: AttentionUNet with 16 filters on an HDF5 file a slice, by `fit`, and by `fit` in bf16."""
    train, val = parts_of_phantom(SLICES, channels="all", masks=True)
    files = []
    for name, part in (("train", train), ("val", val)):
        (folder / name).mkdir(parents=True)
        whole = part.batch(range(len(part)))
        paths = [folder / name / f"{i}.h5" for i in range(len(part))]
        for i, path in enumerate(paths):
            with h5py.File(path, "w") as file:
                file["image"] = whole["image"][i].permute(1, 2, 0).numpy().astype(np.float64)
                file["mask"] = whole["mask"][i].permute(1, 2, 0).numpy()
        files.append(Slices(paths))
    recipe = replace(get_recipe("s2", "AttentionUNet"), epochs=1)
    channels, masks = len(train.channels), train.mask_channels

    def net() -> nn.Module:
        return SEGMENTERS["AttentionUNet"](in_channels=channels, out_channels=masks, n_filters=16)

    def fitted(precision: str) -> Callable:
        return by_fit(net, lambda: Segmentation(masks), train, val, recipe, precision)

    return {
        "S2's manner": lambda: plain_epoch(net(), nn.BCEWithLogitsLoss(), *files, recipe.batch_size, device),
        "fit": fitted("no"),
        "fit, bf16": fitted("bf16"),
    }
