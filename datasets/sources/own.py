"""Reads a reader's own images: 2-D files, NIfTI volumes and DICOM files, with masks or not.

They are listed by a table (`table.py`) or lie in folders of classes. Masks have one channel, 0 and 1 or 0 and 255.
In `raw/` lies what was listed, beside the list, `samples.csv`.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.catalog import DataError, Dataset
from datasets.facts import OWN_TABLE
from datasets.sources import Sample, files_below, table, volumes
from datasets.sources.folders import IMAGE_SUFFIXES, NO_IMAGES
from datasets.store.manifest import read_rows, sha256
from datasets.store.preprocess import RawImage, decode, examine
from datasets.store.spelling import one_spelling

LABEL = "unlabelled"
SPLITS = dict.fromkeys(("train", "training", "val", "validation", "valid"), "train")
SPLITS |= dict.fromkeys(("test", "testing"), "test")
# Folders that are no classes: only a table says whose masks they hold.
MASKS = ("mask", "masks", "segmentation", "segmentations", "annotations")
MASK = re.compile(r"(.+)_(?:mask|seg|segmentation)(?:_\d+)?", re.IGNORECASE)  # name of a mask, less its suffix
HEALTHY = ("notumor", "notumour", "no", "none", "normal", "healthy", "negative")  # letters of such labels

Rows = list[dict[str, str]]


@dataclass
class Given:
    """What a reader brings: a folder, the table that names what is in it, and how its columns are called.

    Without a table it is `samples.csv` in the folder; without that, the folder holds a folder for each class, or
    folders for training and test that hold those.
    """

    folder: Path
    table: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """What the reader named, for messages."""
        return self.table or self.folder

    @cached_property
    def listing(self) -> tuple[Rows, list[str]]:
        """Rows (`image` and, where known, `mask`, `patient`, `label`, `split`) and notes on what was understood.

        Raises `DataError` where there is nothing to read, or `table.read` finds a fault.
        """
        named = self.table or self.folder / OWN_TABLE
        rows, notes = self._of_table(named) if self.table or named.is_file() else self._of_classes()
        if "patient" not in rows[0]:
            self._name_patients(rows)
        if "label" in rows[0]:
            labels, several = one_spelling([row["label"] for row in rows])
            if several:
                notes.append(f"labels spelt in several ways, each taken to be one: {', '.join(several)}")
            for label in sorted(set(labels) - {"notumor"}):
                if "".join(filter(str.isalpha, label.casefold())) in HEALTHY:
                    notes.append(
                        f"'{label}' is a class like any other here; other sets call images without a tumour 'notumor': "
                        "name it so to test on them or to ask for tumour or none"
                    )
            rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
        return rows, notes

    def files(self) -> list[str]:
        """Images and masks, each once."""
        return list(dict.fromkeys(row[name] for row in self.listing[0] for name in table.FILES if name in row))

    def _of_table(self, named: Path) -> tuple[Rows, list[str]]:
        """A row an image, also where a row of the table names a folder of DICOM files."""
        listed, unused = table.read(named, self.folder, self.columns)
        rows: Rows = []
        for row in listed:
            series = self.folder / row["image"]
            if not series.is_dir():
                rows.append(row)
                continue
            files = [file for file in files_below(series) if file.parent == series and volumes.is_dicom(file)]
            if not files or "mask" in row:
                wrong = "has a mask, which only a file can have" if files else "holds no DICOM file"
                raise DataError(f"{named}: the folder {row['image']} {wrong}; name its files")
            rows += [row | {"image": file.relative_to(self.folder).as_posix()} for file in files]
        (image, times), *_ = Counter(row["image"] for row in rows).most_common(1)
        if times > 1:
            raise DataError(f"{named}: '{image}' stands in the table twice, by itself and in its folder; remove one")
        return rows, [f"columns of {named.name} that are not used: {', '.join(unused)}"] if unused else []

    def _of_classes(self) -> tuple[Rows, list[str]]:
        """A row an image of a folder of classes, by class and path, and notes on what was left out."""
        classes, no_classes = _classes(self.folder)
        rows, left_out, depth = [], [], len(next(iter(classes), Path()).parts)
        for file in files_below(self.folder):
            path = file.relative_to(self.folder)
            kind = Path(*path.parts[:depth])
            if any(_is_hidden(part) for part in path.parts) or file.name.lower() in NO_IMAGES:
                continue
            if kind in classes and (file.suffix.lower() in IMAGE_SUFFIXES or _is_volume(file)):
                split = {"split": classes[kind]} if classes[kind] else {}
                rows.append({"image": path.as_posix(), "label": kind.name} | split)
            elif len(path.parts) == 1 or path.parts[0] not in no_classes:
                left_out.append(path)
        notes = [f"left out {', '.join(no_classes)}: no split with classes in it"] if no_classes else []
        if not rows:
            raise DataError(
                f"{self.folder}: neither a table {OWN_TABLE} nor folders of classes with images in them"
                f"{''.join(f' ({note})' for note in notes)}; name a table with --labels"
            )
        _refuse_masks(self.folder, [Path(row["image"]) for row in rows])
        if left_out:
            first = ", ".join(map(str, sorted(left_out, key=lambda path: len(path.parts))[:3]))
            notes.append(f"{len(left_out)} files are no images in a class and were left out, {first} first")
        return rows, notes

    def _name_patients(self, rows: Rows) -> None:
        """Where no table names patients, DICOM files do, or at least their studies."""
        paths = {row["image"]: self.folder / row["image"] for row in rows}
        tags = {image: volumes.person(path) for image, path in paths.items() if volumes.is_dicom(path)}
        several = len({of["PatientID"] for of in tags.values()}) > 1  # one for all is no name, but what was left of one
        order = volumes.PERSON if several else volumes.PERSON[1:]
        for row in rows:
            of = tags.get(row["image"], {})
            row["patient"] = next((of[name] for name in order if of.get(name)), "")


def _classes(folder: Path) -> tuple[dict[Path, str], list[str]]:
    """Path of each class in `folder` → its published split, "" where there is none; folders that are no classes.

    Folders named as a split are splits wherever one of them holds folders, and never classes.
    """
    tops = _subfolders(folder)
    split_of = {top: SPLITS[top.name.casefold()] for top in tops if top.name.casefold() in SPLITS}
    divided = [top for top in split_of if _subfolders(top)]
    classes = {kind: split_of[top] for top in divided for kind in _subfolders(top)}
    classes = classes or {top: "" for top in tops if top not in split_of}
    if masks := [place.name for place in (*tops, *classes) if place.name.casefold() in MASKS]:
        raise DataError(f"{folder / OWN_TABLE}: not there, and '{masks[0]}' is no class; {table.A_ROW}")
    if split := next((kind for kind in classes if kind.name.casefold() in SPLITS), None):
        raise DataError(f"{split}: a split, where a class should be; put its folders into {split.parent}")
    known = {kind.relative_to(folder): split for kind, split in classes.items()}
    return known, [top.name for top in tops if top not in divided and top not in classes]


def _refuse_masks(folder: Path, images: Sequence[Path]) -> None:
    """Raise `DataError` where an image is a mask, by its folder's name or by its own beside that of an image."""
    stem_of = {image: re.sub(r"\.nii$", "", image.stem.casefold()) for image in images}
    masks = {image: found[1] for image, stem in stem_of.items() if (found := MASK.fullmatch(stem))}
    others = [image for image in images if image not in masks]
    known = {(image.parent, stem_of[image]) for image in others}
    known |= {(image.parent, stem_of[image].rpartition("_")[0]) for image in others}  # of p_flair the mask is p_seg
    for image in images:
        inside = any(part.casefold() in MASKS for part in image.parent.parts)
        if inside or (image.parent, masks.get(image)) in known:
            raise DataError(f"{folder / OWN_TABLE}: not there, and {image} is a mask by its name; {table.A_ROW}")


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path.name)]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() == "__macosx"


def _is_volume(path: Path) -> bool:
    return volumes.is_nifti(path) or volumes.is_dicom(path)


# ---- from the reader's folder to raw/, and from there to images ----------------------------------------


def source_of(given: Given) -> dict[str, Any]:
    """Name, bytes, sha256 and path of what a reader brings: of the list, and of the files in it."""
    paths = [given.folder / name for name in given.files()]
    parts = [json.dumps(given.listing[0], sort_keys=True), *(sha256(path) for path in paths)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    size = sum(path.stat().st_size for path in paths)
    return {"name": given.path.name, "bytes": size, "sha256": digest, "path": str(given.path)}


def copy(given: Given, raw: Path, progress: Callable[[int], Any]) -> list[str]:
    """Copy what is listed, and the list, into the new folder `raw`; returns the notes on the list."""
    rows, notes = given.listing
    for name in given.files():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.folder / name, raw / name)
        progress(1)
    pd.DataFrame(rows).to_csv(raw / OWN_TABLE, index=False)
    return notes


def facts(dataset: Dataset, raw: Path, channels: Sequence[str] | None) -> Dataset:
    """What the catalogue cannot know of `own`: its classes, the channels that are kept, whether there are masks."""
    rows = read_rows(raw / OWN_TABLE)
    classes = tuple(sorted({row.get("label", LABEL) for row in rows}))
    masks = dataset.mask_channels if "mask" in rows[0] else ()
    return replace(dataset, classes=classes, channels=tuple(channels or dataset.channels), mask_channels=masks)


def count(raw: Path) -> int:
    """Number of images in `raw`, slices of volumes counted."""
    paths = [raw / row["image"] for row in read_rows(raw / OWN_TABLE)]
    return sum(volumes.count(path) if _is_volume(path) else 1 for path in paths)


@cache
def _by_image(raw: Path, changed: int) -> dict[str, dict[str, str]]:
    """Image → row; `changed` is the list's time, since the same path may hold another list later."""
    return {row["image"]: row for row in read_rows(raw / OWN_TABLE)}


def target(dataset: Dataset, member: str) -> str | None:
    """Nothing: a folder is copied, no archive is unpacked."""
    return None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All files of the list, in its order."""
    return [Sample(row["image"], row.get("label", LABEL), row.get("split", "")) for row in read_rows(raw / OWN_TABLE)]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """The images of file `path` with their masks; slices of one grey value and without a mask are left out.

    Raises:
        DataError: with the reason, where the file cannot be read or its mask does not fit.
    """
    row = _by_image(raw, (raw / OWN_TABLE).stat().st_mtime_ns)[path]
    known = {"patient": row.get("patient", "")}
    if "mask" in row:
        known |= {"mask": row["mask"], "mask_sha256": sha256(raw / row["mask"])}
    channels = len(dataset.channels)
    if not _is_volume(raw / path):
        image, remarks = examine((raw / path).read_bytes(), channels, look_for_colour=channels == 1)
        mask = _masks(raw, row, image[None])[0] if "mask" in row else None
        return [RawImage(image, mask, known, remarks)]
    if channels > 1:
        raise DataError(f"holds 1 channel, not {channels}")
    planes = volumes.read(raw / path)
    masks = _masks(raw, row, planes) if "mask" in row else [None] * len(planes)
    places: list[dict] = [{"path": f"{path}/{z:03d}", "slice": z} for z in range(len(planes))]
    if volumes.is_nifti(raw / path) or len(planes) > 1:
        known["patient"] = known["patient"] or path  # who it is, nobody says, but it is one
    else:
        places = [{}]
    found = [
        RawImage(plane, mask, known | place)
        for plane, mask, place in zip(planes, masks, places, strict=True)
        if len(planes) == 1 or plane.min() < plane.max() or (mask is not None and mask.any())
    ]
    if not found:
        raise DataError("every slice of it is of one grey value")
    return found


def _masks(raw: Path, row: dict[str, str], images: np.ndarray) -> list[np.ndarray]:
    """The masks of a row, each H×W×1 of 0 and 1, that fit its images N×H×W[×C]."""
    name = row["mask"]
    try:
        if _is_volume(raw / name):
            masks = volumes.read_mask(raw / name, raw / row["image"])
        else:
            masks = decode((raw / name).read_bytes())[None]
    except DataError as error:
        raise DataError(f"mask {name}: {error}") from error
    if masks.shape != images.shape[:3]:
        raise DataError(f"image {images.shape[:3]} and mask {name} {masks.shape} should have one shape")
    values = set(np.unique(masks).tolist())
    if not values <= {0, 255} and not values <= {0, 1}:
        raise DataError(f"mask {name} holds {sorted(values)[:5]}; 0 and 1, or 0 and 255, are taken (PNG, no JPEG)")
    return list((masks > 0).astype(np.uint8)[..., None])
