"""What a reader brings: a folder of classes, or a table that names images, masks, patients and labels."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datasets.catalog import DataError
from datasets.facts import OWN_TABLE
from datasets.sources import table, volumes
from datasets.sources.folders import IMAGE_SUFFIXES, NO_IMAGES
from datasets.sources.walking import files_below
from datasets.store.manifest import one_spelling

SPLITS = {"train": "train", "training": "train", "val": "train", "validation": "train", "valid": "train"}
SPLITS |= {"test": "test", "testing": "test"}
HIDDEN = ("__macosx",)
MASKS = (
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "annotations",
)  # no classes: only a table says whose they are
MASK = re.compile(r"(.+)_(?:mask|seg|segmentation)(?:_\d+)?", re.IGNORECASE)  # name of a mask, less its suffix
A_ROW = "write a row an image: image,mask,patient"
HEALTHY = ("notumor", "notumour", "no", "none", "normal", "healthy", "negative")  # letters of such labels


@dataclass
class Given:
    """A folder, the table that names what is in it, and how its columns are called.

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
    def listing(self) -> tuple[list[dict[str, str]], list[str]]:
        """Rows (`image` and, where known, `mask`, `patient`, `label`, `split`) and notes on what was understood.

        Raises `DataError` where there is nothing to read, or `table.read` finds a fault.
        """
        named = self.table or self.folder / OWN_TABLE
        if self.table or named.is_file():
            rows, unused = table.read(named, self.folder, self.columns)
            notes = [f"columns of {named.name} that are not used: {', '.join(unused)}"] if unused else []
            rows = [part for row in rows for part in _of_series(self.folder, row, named)]
            if twice := [image for image, times in Counter(row["image"] for row in rows).items() if times > 1]:
                raise DataError(
                    f"{named}: '{twice[0]}' stands in the table twice, by itself and in its folder; remove one of both"
                )
        else:
            rows, notes = _of_folders(self.folder)
        _name_patients(self.folder, rows)
        if "label" in rows[0]:
            labels, several = one_spelling([row["label"] for row in rows])
            notes += [f"labels spelt in several ways, each taken to be one: {', '.join(several)}"] * bool(several)
            notes += _note_on_healthy(labels)
            rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
        return rows, notes

    def files(self) -> list[str]:
        """Images and masks, each once."""
        return list(dict.fromkeys(row[name] for row in self.listing[0] for name in table.FILES if name in row))


def _of_series(folder: Path, row: dict[str, str], named: Path) -> list[dict[str, str]]:
    """A row an image where a row of a table names a folder of DICOM files."""
    series = folder / row["image"]
    if not series.is_dir():
        return [row]
    files = [file for file in files_below(series) if file.parent == series and volumes.is_dicom(file)]
    if not files or "mask" in row:
        wrong = "has a mask, which only a file can have" if files else "holds no DICOM file"
        raise DataError(f"{named}: the folder {row['image']} {wrong}")
    return [row | {"image": file.relative_to(folder).as_posix()} for file in files]


def _of_folders(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """A row an image of a folder of classes, by class and path, and notes on what was left out."""
    classes, no_classes = _classes(folder)
    rows, left_out, depth = [], [], len(next(iter(classes), Path()).parts)
    for file in files_below(folder):
        path = file.relative_to(folder)
        kind = Path(*path.parts[:depth])
        if any(_is_hidden(part) for part in path.parts) or file.name.lower() in NO_IMAGES:
            continue
        if kind in classes and (
            file.suffix.lower() in IMAGE_SUFFIXES or volumes.is_nifti(file) or volumes.is_dicom(file)
        ):
            split = {"split": classes[kind]} if classes[kind] else {}
            rows.append({"image": path.as_posix(), "label": kind.name} | split)
        elif len(path.parts) == 1 or path.parts[0] not in no_classes:
            left_out.append(path)
    without = f"{', '.join(no_classes)}: no split with classes in it" if no_classes else ""
    if not rows:
        raise DataError(
            f"{folder}: neither a table {OWN_TABLE} nor folders of classes with images in them"
            f"{f' ({without})' if without else ''}; name a table with --labels"
        )
    _refuse_masks(folder, [Path(row["image"]) for row in rows])
    left_out.sort(key=lambda path: len(path.parts))
    first = ", ".join(map(str, left_out[:3]))
    notes = [f"left out {without}"] * bool(without)
    notes += [f"{len(left_out)} files are no images in a class and were left out, {first} first"] * bool(left_out)
    return rows, notes


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
        raise DataError(f"{folder / OWN_TABLE}: not there, and '{masks[0]}' is no class; {A_ROW}")
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
            raise DataError(f"{folder / OWN_TABLE}: not there, and {image} is a mask by its name; {A_ROW}")


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path.name)]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in HIDDEN


def _name_patients(folder: Path, rows: list[dict[str, str]]) -> None:
    """Where no table names patients, DICOM files do, or at least their studies."""
    if "patient" in rows[0]:
        return
    tags = {
        row["image"]: volumes.person(folder / row["image"]) for row in rows if volumes.is_dicom(folder / row["image"])
    }
    several = len({of["PatientID"] for of in tags.values()}) > 1  # one for all is no name, but what was left of one
    order = volumes.PERSON if several else volumes.PERSON[1:]
    for row in rows:
        of = tags.get(row["image"], {})
        row["patient"] = next((of[name] for name in order if of.get(name)), "")


def _note_on_healthy(labels: list[str]) -> list[str]:
    alike = [
        label
        for label in sorted(set(labels))
        if label != "notumor" and "".join(filter(str.isalpha, label.casefold())) in HEALTHY
    ]
    return [
        f"'{label}' is a class like any other here; other sets call images without a tumour 'notumor': name it so to "
        "test on them or to ask for tumour or none"
        for label in alike
    ]
