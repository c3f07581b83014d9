"""Reads sets of one image a file: a folder for each class, inside one for each published split where there is one."""

import re
from pathlib import Path, PurePosixPath

from datasets.catalog import BrokenArchive, Dataset
from datasets.sources import Sample
from datasets.store.preprocess import RawImage, decode

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
NO_IMAGES = ("thumbs.db", "desktop.ini", ".ds_store")  # what Windows and macOS put into folders of images


def target(dataset: Dataset, member: str) -> str | None:
    """[SPLIT/]CLASS/FILE of an archive's member, whatever folder the whole was zipped in."""
    path, depth = PurePosixPath(member), 3 if dataset.splits else 2
    if len(path.parts) < depth or path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("._"):
        return None
    *split, folder, name = path.parts[-depth:]
    known = folder in dataset.folders and (not split or split[0] in dataset.splits)
    return "/".join((*split, folder, name)) if known and re.match(dataset.names, name) else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All images, sorted by path; `BrokenArchive` names a class folder that is missing or empty."""
    found = []
    for split, published in (dataset.splits or {"": ""}).items():
        for folder, label in dataset.folders.items():
            where = PurePosixPath(split, folder)
            files = [p for p in (raw / where).glob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
            if not files:
                raise BrokenArchive(f"{dataset.name}: class folder {where} holds no image; {dataset.again}")
            found += [Sample(f"{where}/{p.name}", label, published) for p in files]
    return sorted(found, key=lambda sample: sample.path)


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """The one image of a file."""
    return [RawImage(decode((raw / path).read_bytes()))]
