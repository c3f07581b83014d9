"""Joins images of several sets into one that asks for a tumour or none, so that no source has a class to itself.

Of a set with masks, all of whose patients have a tumour, it takes slices with one and slices without. Relatives of the
sets that it is to be tested on stay out, by the committed tables.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets import catalog, hdf5
from datasets.catalog import HEALTHY, TUMOUR, Dataset
from datasets.labels import viewed
from datasets.sources import layouts
from datasets.splitting import groups_of, related
from datasets.store import index, manifest, packing
from datasets.store.preprocess import RawImage

SMALLEST = 0.003  # share of the image that the mask of a tumour covers at least: what is smaller is hardly to be seen
HEAD = 0.12  # share that is not dark, at least, in a slice without a tumour: at the ends of a head there is none to see
DARK = 25  # of 255
EVERY = 2  # slices, of those that are left: neighbours are nearly the same
UNUSED = ("pre-contrast",)  # sequences on which many tumours cannot be seen


def join(dataset: Dataset, work: Path, size: int, crop: str, workers: int | None) -> None:
    """Write images.h5, manifest.csv and log.json of a joined set into `work`, from the publishers' files of the sets
    that it joins. Raises `DataError` where one of these, or the table of its relatives, is not there."""
    rows = {row["path"]: row for name in dataset.joins for row in _rows(name, dataset.without)}
    stored, broken = packing.pack(read, [*rows], work / "images.h5", size=size, crop=crop, workers=workers)
    table = []
    for facts in stored:
        del facts["remarks"]
        table.append(facts | rows[facts["path"]] | {"published_split": "", "sha256": facts["file_sha256"]})
    manifest.write_manifest(work / "manifest.csv", table)
    log = {"name": dataset.name, "version": packing.VERSION, "size": size, "crop": crop, "images": len(table)}
    manifest.write_log(work, log | {"broken": broken, "counts": manifest.count(table)})


def _rows(name: str, without: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Path, label, patient and source of the images that are taken of a set: SET/PATH, or SET/SEQUENCE/PATH."""
    facts, table = catalog.get(name), index.read_manifest(name)
    labels, groups = viewed(table.label, "tumour").to_numpy(), groups_of(name, table)
    taken = ~np.any([related(name, other, table) for other in without], axis=0)
    if facts.mask_channels:
        with hdf5.opened(index.require(name) / "images.h5", index.check_command(name)) as store:
            tumour = np.array([mask.any(-1).mean() for mask in store["mask"]])
            head = np.array([(image[..., facts.grey] > DARK).mean() for image in store["image"]])
        labels = np.where(tumour > 0, TUMOUR, HEALTHY)
        taken &= np.where(tumour > 0, tumour >= SMALLEST, head >= HEAD)
        taken &= np.cumsum(taken) % EVERY == 0
    sequences = [f"{one}/" for one in facts.channels if one not in UNUSED] if len(facts.channels) > 1 else [""]
    for row in np.flatnonzero(taken):
        for sequence in sequences:
            path = f"{name}/{sequence}{table.path[row]}"
            yield {"path": path, "label": labels[row], "patient": f"{name} {groups[row]}", "source": name}


def read(path: str) -> list[RawImage]:
    """The image of one file, of one of its sequences."""
    name, _, inside = path.partition("/")
    facts, channel = catalog.get(name), None
    if len(facts.channels) > 1:
        sequence, _, inside = inside.partition("/")
        channel = facts.channels.index(sequence)
    (found,) = layouts.read(facts, catalog.dataset_dir(name) / "raw", inside)
    kept = {key: found.facts[key] for key in ("bytes", "width", "height", "file_sha256")}
    return [replace(found, image=found.image if channel is None else found.image[..., channel], mask=None, facts=kept)]
