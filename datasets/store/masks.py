"""Finds the masks of a data set: in its own store, or in `masks.h5` beside it, carried over from another set.

`curation/masks.py` writes that file (`download.py NAME --masks-from cheng`); `images.py` reads both kinds alike.
"""

from pathlib import Path

import numpy as np

from datasets import catalog, hdf5
from datasets.catalog import HEALTHY, DataError
from datasets.store import index, manifest

CARRIED, LINKS = "masks.h5", "masks.csv"  # the masks, and which slice each of them is from


def with_masks() -> list[str]:
    """Names of the data sets whose publisher made masks."""
    return [name for name in catalog.CATALOG if catalog.get(name).mask_channels]


def mask_channels(name: str) -> tuple[str, ...]:
    """Names of the mask's channels of data set `name`; none where it has no masks, of its own or carried over."""
    if own := catalog.get(name).mask_channels:
        return own
    path = catalog.dataset_dir(name) / CARRIED
    return tuple(_facts(path)["channels"].split(",")) if path.is_file() else ()


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
    if log is None or _facts(path)["images_sha256"] != log["images_sha256"]:
        raise DataError(
            f"{path}: made for other images than those beside it. "
            f"Run: python datasets/download.py {name} --masks-from {_facts(path)['source']}"
        )
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


def _facts(path: Path) -> dict[str, str]:
    with hdf5.opened(path) as store:
        return dict(store.attrs)
