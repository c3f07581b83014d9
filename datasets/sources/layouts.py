"""The layout of a data set, one file here: where each member of an archive goes (`target`, but of `own`, which has no
archive), which `samples` there are, and how one is `read`.
"""

from dataclasses import replace
from pathlib import Path

from datasets.catalog import BrokenArchive, DataError, Dataset
from datasets.reading import reading
from datasets.sources import Sample, brats, cheng, folders, lgg, nih, own, remind
from datasets.store import manifest
from datasets.store.preprocess import RawImage

LAYOUTS = {"folders": folders, "matlab": cheng, "brats": brats, "lgg": lgg, "nih": nih, "own": own, "remind": remind}


def target(dataset: Dataset, member: str) -> str | None:
    """Path under `raw/` at which an archive's `member` belongs, or None where the set has no use for it."""
    return LAYOUTS[dataset.layout].target(dataset, member)


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """The images of `raw`, sorted by path; `BrokenArchive` where a folder or table that lists them is not whole."""
    try:
        with reading(raw, dataset.again):
            return LAYOUTS[dataset.layout].samples(dataset, raw)
    except DataError as error:
        raise BrokenArchive(error) from error


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """The images in `raw`/`path` with the facts of their file; raises `DataError` where it is broken."""
    with reading(path):
        images = LAYOUTS[dataset.layout].read(dataset, raw, path)
    height, width = images[0].image.shape[:2]
    facts = {"bytes": manifest.size(raw / path), "width": width, "height": height}
    facts["file_sha256"] = manifest.sha256(raw / path)
    return [replace(image, facts=facts | image.facts) for image in images]
