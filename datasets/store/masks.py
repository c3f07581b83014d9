"""Finds the masks of a data set: in its own store, or in `masks.h5` beside it, carried over from another set.

`curation/masks.py` writes that file (`download.py NAME --masks-from cheng`); `images.py` reads both kinds alike.
"""

from pathlib import Path

import numpy as np

from datasets import catalog, hdf5
from datasets.catalog import HEALTHY, DataError
from datasets.reading import read_table
from datasets.store import index, manifest

CARRIED, LINKS = "masks.h5", "masks.csv"  # the masks, and which slice each of them is from
OTHER_IMAGES = "made for other images than those beside it"


def with_masks() -> list[str]:
    """Names of the data sets whose publisher made masks."""
    return [name for name in catalog.CATALOG if catalog.get(name).mask_channels]


def mask_channels(name: str) -> tuple[str, ...]:
    """Names of the mask's channels of data set `name`; none where it has no masks, of its own or carried over."""
    if own := catalog.get(name).mask_channels:
        return own
    path = catalog.dataset_dir(name) / CARRIED
    return tuple(_fact(path, "channels").split(",")) if path.is_file() else ()


def mask_file(name: str) -> Path:
    """The HDF5 file whose `mask` holds the masks of data set `name`, a row an image.

    Raises:
        DataError: there are none, or they were carried over to images that have been packed anew since.
    """
    home = index.require(name)
    with hdf5.opened(home / "images.h5", index.check_command(name)) as store:
        if "mask" in store:
            return home / "images.h5"
    path = home / CARRIED
    if not path.is_file():
        raise DataError(
            f"{home / 'images.h5'}: '{name}' has no masks; sets with masks: {', '.join(with_masks())}. "
            f"Images that show slices of 'cheng' take its masks: python datasets/download.py {name} --masks-from cheng"
        )
    log = manifest.read_log(home)
    if log is None or _fact(path, "images_sha256") != log["images_sha256"]:
        raise DataError(f"{path}: {OTHER_IMAGES}. Run: {_command(name, _fact(path, 'source'))}")
    return path


def outlined(name: str) -> np.ndarray:
    """Of every image of data set `name`, whether its mask is known, bool N: an image without a tumour has an empty one.

    Raises:
        DataError: see `mask_file`.
    """
    labels = index.read_manifest(name).label.to_numpy()
    with hdf5.opened(mask_file(name), index.check_command(name)) as store:
        linked = hdf5.read(store, "linked").astype(bool) if "linked" in store else np.ones(len(labels), bool)
    return linked | (labels == HEALTHY)


def check_carried(home: Path, images: int, images_sha256: str) -> tuple[list[str], list[str]]:
    """What is in order and what is wrong with the masks in `home` that were carried over, in words; nothing of none.

    Args:
        images, images_sha256: how many images lie beside them, and the digest of their file, "" where unknown.
    """
    path, source, problems = home / CARRIED, "cheng", []
    if not path.is_file():
        return [], [f"{LINKS} is here without {CARRIED}; delete it"] if (home / LINKS).is_file() else []
    try:
        with hdf5.opened(path, what="cannot be read") as store:
            source = str(store.attrs["source"])
            masks, linked = hdf5.array(store, "mask", most=None), hdf5.read(store, "linked")
            if images_sha256 and store.attrs["images_sha256"] != images_sha256:
                problems.append(f"{CARRIED}: {OTHER_IMAGES}")
            elif not len(masks) == len(linked) == images:
                problems.append(f"{CARRIED}: holds {len(masks)} masks of {images} images")
            elif changed := sum(not hdf5.readable(masks, row) for row in range(images)):
                problems.append(f"{changed} masks of {CARRIED} changed on disk")
        if not (home / LINKS).is_file() or len(read_table(home / LINKS, needs=["path", "slice"])) != images:
            problems.append(f"{LINKS}: not a row an image of {CARRIED}")
    except DataError as error:
        problems.append(str(error))
    if problems:
        return [], [f"{problem}; run: {_command(home.name, source)}" for problem in problems]
    return [f"{CARRIED}: {int(linked.sum())} of {images} images have a mask of {source}"], []


def _command(name: str, source: str) -> str:
    return f"python datasets/download.py {name} --masks-from {source}"


def _fact(path: Path, name: str) -> str:
    with hdf5.opened(path, index.check_command(path.parent.name)) as store:
        return str(store.attrs[name])
