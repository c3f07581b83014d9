"""Parts of `make bench`: an epoch by `fit` beside a loop in the manner of S2, on the same phantom images.

The loop is ours, written from what is known of the source: one image at a time, from a file each, in the process
that trains. Model, batch, optimiser, number of images and validation are the same on all sides.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from steps import in_16_bits
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import AttentionUNet, CustomCNN
from utils.recipes import get_recipe
from utils.training.loop import fit, make_accelerator
from utils.training.tasks import Classification, Segmentation

SIDE = 128
IMAGES, SLICES = 640, 64  # that many are trained on, a quarter as many are validated
NOTE = {
    "note": "640 images are trained on and 160 validated, the same on all sides. S2's manner reads JPEG files of 256 "
    "pixels, as S2's own `download.py` leaves them, here of phantom images, which are smoother than scans. *fit, auto* "
    "takes the faster precision by a trial, which is part of its time."
}
TENSOR = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
AS_S2 = [v2.RandomHorizontalFlip(), v2.RandomRotation(10), v2.ColorJitter(0.2, 0.2)]
Read = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


def plain_epoch(build: Callable, loss: nn.Module, train: Read, val: Read, images: int, batch: int) -> None:
    """One epoch as S2 writes it: train, then validate; files are read in the process that trains."""

    def batches(read: Read, number: int, shuffle: bool) -> DataLoader:
        return DataLoader(range(number), batch, shuffle, collate_fn=lambda rows: default_collate([*map(read, rows)]))

    net = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    net.train()
    for inputs, targets in batches(train, images, True):
        optimizer.zero_grad()
        value = loss(net(inputs), targets)
        value.backward()
        optimizer.step()
        value.item()
    net.eval()
    with torch.no_grad():
        for inputs, targets in batches(val, images // 4, False):
            loss(net(inputs), targets).item()


def by_fit(build: Callable, task: Callable, train: ImageDataset, val: ImageDataset, recipe) -> dict[str, Callable]:
    """The same epoch by `fit`, checkpoint and metrics included, in each precision."""

    def work(precision: str) -> None:
        AcceleratorState._reset_state()  # a process has one precision: here it is another from side to side
        with tempfile.TemporaryDirectory() as folder:
            fit(build(), task(), train, val, recipe, folder=Path(folder), accelerator=make_accelerator(precision))

    sides = {"fit": partial(work, "no"), "fit, bf16": partial(work, "bf16"), "fit, auto": partial(work, "auto")}
    return {name: side for name, side in sides.items() if in_16_bits("cpu") or "bf16" not in name}


def parts_of_phantom(images: int, **settings: object) -> list[ImageDataset]:
    """Training and validation images of the phantom; images come again where more are wanted than it has."""
    split = make_split("phantom", "patient")
    rows = np.resize(split.train, images), np.resize(split.val, images // 4)
    return [ImageDataset("phantom", some, image_size=SIDE, **settings) for some in rows]


def jpeg(paths: Sequence[Path], labels: torch.Tensor, augmented: list, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = Image.open(paths[i]).convert("RGB").resize((SIDE, SIDE))
    return v2.Compose([*augmented, *TENSOR])(image), labels[i]


def classification(folder: Path) -> dict[str, Callable]:
    """Sides: CustomCNN by S2's manner, and by `fit`."""
    parts, read, recipe = parts_of_phantom(IMAGES), [], replace(get_recipe("s2", "CustomCNN"), epochs=1)
    for number, part in enumerate(parts):
        paths = [folder / f"{number}_{row}.jpg" for row in part.rows]
        folder.mkdir(exist_ok=True)
        for path, image in zip(paths, part.batch(range(len(part)))["image"][:, 0].numpy(), strict=True):
            Image.fromarray(image).resize((256, 256)).save(path)
        read.append(partial(jpeg, paths, part.labels))
    sides = partial(read[0], AS_S2), partial(read[1], [])
    plain = partial(plain_epoch, CustomCNN, nn.CrossEntropyLoss(), *sides, IMAGES, recipe.batch_size)
    task = partial(Classification, 4, 3, recipe.augmentation)
    return {"S2's manner": plain} | by_fit(CustomCNN, task, *parts, recipe)


def hdf5(paths: Sequence[Path], i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An HDF5 file a slice, float64 image and mask, scaled channel by channel when it is asked for."""
    with h5py.File(paths[i]) as file:
        image, mask = file["image"][()], file["mask"][()]
    for channel in range(image.shape[2]):
        low, high = image[..., channel].min(), image[..., channel].max()
        image[..., channel] = (image[..., channel] - low) / max(high - low, 1e-6)
    return torch.tensor(image, dtype=torch.float32).permute(2, 0, 1), torch.tensor(mask).permute(2, 0, 1).float()


def segmentation(folder: Path) -> dict[str, Callable]:
    """Sides: AttentionUNet with 16 filters on an HDF5 file a slice, and by `fit`."""
    parts, read, recipe = parts_of_phantom(SLICES, channels="all", masks=True), [], get_recipe("s2", "AttentionUNet")
    for number, part in enumerate(parts):
        whole, paths = part.batch(range(len(part))), [folder / f"{number}_{i}.h5" for i in range(len(part))]
        for i, path in enumerate(paths):
            with h5py.File(path, "w") as file:
                file["image"] = whole["image"][i].permute(1, 2, 0).numpy().astype(np.float64)
                file["mask"] = whole["mask"][i].permute(1, 2, 0).numpy()
        read.append(partial(hdf5, paths))
    net = partial(AttentionUNet, in_channels=4, out_channels=3, n_filters=16)
    plain = partial(plain_epoch, net, nn.BCEWithLogitsLoss(), *read, SLICES, recipe.batch_size)
    return {"S2's manner": plain} | by_fit(net, partial(Segmentation, 3), *parts, replace(recipe, epochs=1))
