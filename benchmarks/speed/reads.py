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


def cold(paths: list[Path], work: Callable) -> None:
    """`work`, after the system was asked to drop what it holds of these files in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    work()


def ways(folder: Path, dropped: bool = False) -> dict[str, Callable[[], object]]:
    """Sides: one pass over 256 phantom images of 128 pixels in random order; of a tar in the order that it has.

    `dropped`: the files are dropped from memory before every pass.
    """
    order = np.random.default_rng(0).permutation(IMAGES)
    stored = ImageDataset("phantom", np.arange(IMAGES), image_size=128, channels="all").batch(range(IMAGES))["image"]
    grey = stored[:, ImageDataset("phantom", [0]).channels[0]].numpy()
    jpegs, slices = ([folder / f"{i}.{kind}" for i in range(IMAGES)] for kind in ("jpg", "h5"))
    pngs = [[folder / f"{i}_{channel}.png" for channel in range(stored.shape[1])] for i in range(IMAGES)]
    with tarfile.open(folder / "images.tar", "w") as tar:
        for i, image in enumerate(grey):
            Image.fromarray(image).save(jpegs[i], quality=95)
            tar.add(jpegs[i], jpegs[i].name)
            with h5py.File(slices[i], "w") as store:
                store["image"] = image.astype(np.float64)
            for path, channel in zip(pngs[i], stored[i].numpy(), strict=True):
                Image.fromarray(channel).save(path)

    def in_a_tar() -> None:
        with tarfile.open(folder / "images.tar") as tar:
            for member in tar:
                np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))

    def in_files() -> None:
        for i in order:
            with h5py.File(slices[i]) as store:
                store["image"][()]

    def in_chunks() -> None:
        data = ImageDataset("phantom", np.arange(IMAGES), image_size=128, in_memory=False)
        for start in range(0, IMAGES, BATCH):
            data.batch(order[start : start + BATCH])

    sides = {
        "a JPEG an image": (jpegs, lambda: [np.asarray(Image.open(jpegs[i])) for i in order]),
        "an HDF5 file an image": (slices, in_files),
        "JPEGs in a tar": ([folder / "images.tar"], in_a_tar),
        "four PNGs an image": (
            [path for four in pngs for path in four],
            lambda: [np.stack([np.asarray(Image.open(path)) for path in pngs[i]]) for i in order],
        ),
        "our store": ([catalog.dataset_dir("phantom") / "images.h5"], in_chunks),
    }
    if not dropped:
        return {name: work for name, (_, work) in sides.items()}
    return {name: lambda files=files, work=work: cold(files, work) for name, (files, work) in sides.items()}
