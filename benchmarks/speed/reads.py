"""Parts of `make bench`: reading images from our chunked store, from files of their own, and from a tar."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from datasets import catalog
from datasets.store.images import ImageDataset

IMAGES, BATCH = 256, 32
NOTE = {"note": "An image of our store is four sequences without loss; a JPEG is one of them, with loss."}


def forgotten(paths: list[Path]) -> None:
    """Ask the system to drop what it holds of these files in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def ways(folder: Path, cold: bool = False) -> dict[str, Callable[[], int]]:
    """Sides: one pass over 256 phantom images of 128 pixels in random order; of a tar in the order that it has.

    `cold`: the files are dropped from memory before every pass.
    """
    order = np.random.default_rng(0).permutation(IMAGES)
    stored = ImageDataset("phantom", np.arange(IMAGES), image_size=128, channels="all").batch(range(IMAGES))["image"]
    images = stored[:, ImageDataset("phantom", [0]).channels[0]].numpy()
    folder.mkdir(parents=True, exist_ok=True)
    jpegs, slices, pngs, tar = [], [], [], folder / "images.tar"
    with tarfile.open(tar, "w") as file:
        for i, image in enumerate(images):
            jpegs.append(folder / f"{i}.jpg")
            Image.fromarray(image).save(jpegs[-1], quality=95)
            file.add(jpegs[-1], jpegs[-1].name)
            slices.append(folder / f"{i}.h5")
            with h5py.File(slices[-1], "w") as store:
                store["image"] = image.astype(np.float64)
            pngs.append([folder / f"{i}_{channel}.png" for channel in range(stored.shape[1])])
            for path, channel in zip(pngs[-1], stored[i].numpy(), strict=True):
                Image.fromarray(channel).save(path)
    ours = catalog.dataset_dir("phantom") / "images.h5"

    def chunked() -> int:
        data = ImageDataset("phantom", np.arange(IMAGES), image_size=128, in_memory=False)
        return sum(len(data.batch(order[i : i + BATCH])["image"]) for i in range(0, IMAGES, BATCH))

    def of_jpegs() -> int:
        return sum(np.asarray(Image.open(jpegs[i])).shape[0] > 0 for i in order)

    def of_pngs() -> int:
        return sum(np.stack([np.asarray(Image.open(path)) for path in pngs[i]]).shape[0] > 0 for i in order)

    def of_slices() -> int:
        found = 0
        for i in order:
            with h5py.File(slices[i]) as store:
                found += store["image"][()].shape[0] > 0
        return found

    def of_tar() -> int:
        with tarfile.open(tar) as file:
            return sum(np.asarray(Image.open(io.BytesIO(file.extractfile(m).read()))).shape[0] > 0 for m in file)

    sides = {
        "a JPEG an image": (of_jpegs, jpegs),
        "an HDF5 file an image": (of_slices, slices),
        "JPEGs in a tar": (of_tar, [tar]),
        "four PNGs an image": (of_pngs, [path for some in pngs for path in some]),
        "our store": (chunked, [ours]),
    }
    if not cold:
        return {name: work for name, (work, _) in sides.items()}
    return {name: lambda work=work, files=files: (forgotten(files), work()) for name, (work, files) in sides.items()}
