"""Reads a reader's own images, with masks or not: 2-D files, NIfTI volumes and DICOM files, in folders of classes or
listed in a table (datasets/README.md shows one). In `raw/` lies what was listed, beside the list, `samples.csv`.
"""

import hashlib
import io
import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from datasets.catalog import OWN_TABLE, DataError, Dataset, lookup
from datasets.reading import reading
from datasets.sources import Sample, brats, files_below, volumes
from datasets.sources.folders import IMAGE_SUFFIXES, NO_IMAGES
from datasets.store.manifest import one_spelling, read_rows, sha256
from datasets.store.preprocess import RawImage, decode, examine

# Column → names under which a table may hide it. They are not taken for it unasked, but asked about.
COLUMNS = {
    "image": ("file", "filename", "path", "slice", "scan"),
    "mask": ("segmentation", "seg", "annotation"),
    "patient": ("subject", "person", "case", "pid"),
    "label": ("class", "diagnosis", "target", "category", "finding", "tumor_type", "tumour_type"),
}
FILES = ("image", "mask")
NOTHING = ("nan", "null", "n/a", "#n/a", "na", "<na>", "-", "--", "–", "?")  # in place of a value
NOBODY = (*NOTHING, "none", "unknown", "anonymous")
# By a spreadsheet: the last digits of a long number, which tell patients apart, are gone.
SHORTENED = r"\d(?:[.,]\d+)?e\+\d+"
A_ROW = "write a row an image: image,mask,patient"
LABEL = "unlabelled"
SPLITS = dict.fromkeys(("train", "training", "val", "validation", "valid"), "train")
SPLITS |= dict.fromkeys(("test", "testing"), "test")
MASKS = ("mask", "masks", "segmentation", "segmentations", "annotations")  # folders that are no classes
MASK = re.compile(r"(.+)_(?:mask|seg|segmentation)(?:_\d+)?", re.IGNORECASE)  # name of a mask, less its suffix

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

    @cached_property
    def listing(self) -> tuple[Rows, list[str]]:
        """Rows (`image` and, where known, `mask`, `patient`, `label`, `split`) and notes on what was understood.

        Raises `DataError` where there is nothing to read, or `read_table` finds a fault.
        """
        named = self.table or self.folder / OWN_TABLE
        if self.table or named.is_file():
            rows, notes = _of_table(named, self.folder, self.columns)
        else:
            rows, notes = _of_classes(self.folder)
        if "patient" not in rows[0]:
            _name_patients(self.folder, rows)
        if "label" in rows[0]:
            labels, several = one_spelling([row["label"] for row in rows])
            rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
            if several:
                notes.append(f"labels spelt in several ways, each taken to be one: {', '.join(several)}")
        return rows, notes

    def files(self) -> list[str]:
        """Images and masks, each once."""
        return list(dict.fromkeys(row[name] for row in self.listing[0] for name in FILES if name in row))


def _of_table(named: Path, folder: Path, columns: Mapping[str, str]) -> tuple[Rows, list[str]]:
    """A row an image, also where a row of the table names a folder of DICOM files."""
    listed, unused = read_table(named, folder, columns)
    rows: Rows = []
    for row in listed:
        series = folder / row["image"]
        found = files_below(series) if series.is_dir() else [series]
        images = [file for file in found if file == series or (file.parent == series and volumes.is_dicom(file))]
        if not images or (series.is_dir() and "mask" in row):
            wrong = "has a mask, which only a file can have" if images else "holds no DICOM file"
            raise DataError(f"{named}: the folder {row['image']} {wrong}; name its files")
        rows += [row | {"image": image.relative_to(folder).as_posix()} for image in images]
    ((image, times),) = Counter(row["image"] for row in rows).most_common(1)
    if times > 1:
        raise DataError(f"{named}: '{image}' stands in the table twice, perhaps also in a folder; remove one")
    return rows, [f"columns of {named.name} that are not used: {', '.join(unused)}"] if unused else []


def read_table(table: Path, folder: Path, columns: Mapping[str, str]) -> tuple[Rows, list[str]]:
    """The rows of `table`, with those of `COLUMNS` that it has, and the names of its columns that are not used.

    Image and mask are paths in `folder`.  `columns`: name of `COLUMNS` → name in the table where it is another, or ""
    where a column is not to be used.  Raises `DataError`, which names file and line, for a table that is missing or no
    table, a missing column, value or file, a path that leads out of the folder, and a column that may be one of
    `COLUMNS` by another name.
    """
    if not table.is_file():
        raise DataError(f"{table}: not there; {A_ROW}")
    lines = _lines(table)
    names = _names(table, list(lines.columns), columns)
    rows = lines[list(names.values())].set_axis(list(names), axis=1)
    if rows.empty:
        raise DataError(f"{table}: no image follows its first line; {A_ROW}")
    for name, values in rows.items():
        for line in rows.index[values.str.strip() == ""]:
            raise DataError(f"{table}, line {line}: no {name}; fill it in, or remove the line")
        if name in ("patient", "label"):
            text = values.str.strip().str.casefold()
            is_none = text.isin(NOBODY) | text.str.fullmatch(SHORTENED) if name == "patient" else text.isin(NOTHING)
            for line in rows.index[is_none]:
                remedy = f"write it out, remove the line, or leave the column aside: --columns {name}="
                raise DataError(f"{table}, line {line}: '{values[line]}' is no {name}; {remedy}")
        if name in FILES:
            rows[name] = [located(folder, text.strip(), f"{table}, line {line}") for line, text in values.items()]
    return rows.to_dict("records"), [name for name in lines.columns if name not in names.values()]


def _lines(table: Path) -> pd.DataFrame:
    """The lines of a table that are not empty, all text, under their numbers; names of columns in small letters.

    The separator is what the first line holds most of: pandas' own guess takes a letter where there is one column.
    """
    with reading(table, "save it as 'CSV UTF-8', with as many values in each line as in the first", "not a table"):
        text = table.read_text(encoding="utf-8-sig")
        how = {"sep": max(",;\t|", key=text.partition("\n")[0].count), "dtype": str, "skip_blank_lines": False}
        lines = pd.read_csv(io.StringIO(text), keep_default_na=False, **how).fillna("")
        if not isinstance(lines.index, pd.RangeIndex):
            raise ValueError("line 2 has more values than the first")
    lines = lines.rename(columns=lambda name: name.strip().casefold()).set_axis(lines.index + 2)
    full = lines.apply(lambda values: values.str.strip() != "").any(axis=1)
    return lines.loc[full, ~lines.columns.duplicated()]


def _names(table: Path, header: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Name of `COLUMNS` → name in the first line of a table, of those that are there."""
    for name in columns:
        lookup(COLUMNS, name, "column")
    wanted = {name: columns.get(name, name).strip().casefold() for name in COLUMNS}
    for name, its in wanted.items():
        if its in header:
            continue
        if name == "image" or its not in ("", name):
            ask = f"say which column it is: --columns {name}=NAME"
            raise DataError(f"{table}: its first line has no '{its or name}', it names {', '.join(header)}; {ask}")
        others = [other for other in header if name in other or other in COLUMNS[name]] if its else []
        if others := sorted(set(others) - set(wanted.values())):
            ask = f"say --columns {name}={others[0]} if it is that, --columns {name}= if it is not"
            raise DataError(f"{table}: its first line has no '{name}', but '{others[0]}': {ask}")
    return {name: its for name, its in wanted.items() if its in header}


def located(folder: Path, text: str, where: str) -> str:
    """Path in `folder` of the file or folder that a table names, backslashes and composed letters as they come."""
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{where}: '{text}' should lie in the folder {folder}")
    for form in ("NFC", "NFD"):  # macOS decomposes letters
        if (folder / unicodedata.normalize(form, str(path))).exists():
            return unicodedata.normalize(form, str(path))
    raise DataError(f"{where}: {folder / path} does not exist; name a file that is there")


def _of_classes(folder: Path) -> tuple[Rows, list[str]]:
    """A row an image of a folder of classes, by class and path, and notes on what was left out.

    A class is a folder, or a folder in one that is named as a split; where there are such, all else is left out.
    """
    rows, left_out = [], []
    for file in files_below(folder):
        path = file.relative_to(folder)
        if any(part.startswith(".") or part.casefold() == "__macosx" for part in path.parts):
            continue
        *above, name = path.parts
        split = SPLITS.get(above[0].casefold(), "") if len(above) > 1 else ""
        label = above[bool(split)] if above else ""
        is_image = file.suffix.lower() in IMAGE_SUFFIXES or is_volume(file)
        if is_image and label and label.casefold() not in SPLITS:
            rows.append({"image": path.as_posix(), "label": label, "split": split})
        elif name.lower() not in NO_IMAGES:
            left_out.append(path.as_posix())
    if masks := masks_among([Path(row["image"]) for row in rows]):
        raise DataError(f"{folder / OWN_TABLE}: not there, and {masks[0]} is a mask by its name; {A_ROW}")
    if any(row["split"] for row in rows):
        left_out += [row["image"] for row in rows if not row["split"]]
        rows = [row for row in rows if row["split"]]
    if not rows:
        nothing = f"neither a table {OWN_TABLE} nor folders of classes with images in them"
        raise DataError(f"{folder}: {nothing}; name a table with --labels")
    first = ", ".join(left_out[:3])
    notes = [f"{len(left_out)} files are no images in a class and were left out, {first} first"] if first else []
    return rows, notes + _of_nested(folder, rows)


def _of_nested(folder: Path, rows: Rows) -> list[str]:
    """Notes on folders in classes; `DataError` where these seem to be the classes, and the folder one too high."""
    above = [PurePosixPath(*Path(row["image"]).parent.parts[bool(row["split"]) :]) for row in rows]
    labels, top = sorted({row["label"] for row in rows}), PurePosixPath(os.path.commonpath(above))
    inside = [{place.parts[1] for place in above if place.parts[0] == label and place.parts[1:]} for label in labels]
    if len(labels) == 1 and top not in above:
        below = ", ".join(sorted({place.parts[len(top.parts)] for place in above})[:3])
        classes = f"all images lie in {top}, in its folders {below}; name {folder / top} if these are the classes"
        raise DataError(f"{folder}: {classes}, otherwise list the images in a table {OWN_TABLE}")
    for label, names in zip(labels, inside, strict=True):
        if twice := sorted(name for name in names if name in labels or name.casefold() in SPLITS):
            wrong = f"the class {label} holds a folder {twice[0]}, which is a class or a split by its name"
            raise DataError(f"{folder}: {wrong}; take it out, or list the images in a table {OWN_TABLE}")
    if len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        names = ", ".join(sorted(inside[0])[:3])
        return [f"each class holds the folders {names}, read as parts of it; if they are the classes, write a table"]
    return []


def masks_among(images: Sequence[Path]) -> list[Path]:
    """Which images are masks, by the name of their folder or by their own beside that of an image."""
    stem_of = {image: re.sub(r"\.nii$", "", image.stem.casefold()) for image in images}
    masks = {image: found[1] for image, stem in stem_of.items() if (found := MASK.fullmatch(stem))}
    known = set()
    for image in images:
        if image not in masks:  # of p_flair the mask is p_seg
            known |= {(image.parent, name) for name in (stem_of[image], stem_of[image].rpartition("_")[0])}
    inside = [any(part.casefold() in MASKS for part in image.parent.parts) for image in images]
    return [i for i, within in zip(images, inside, strict=True) if within or (i.parent, masks.get(i)) in known]


def _name_patients(folder: Path, rows: Rows) -> None:
    """Where no table names patients, DICOM files do, or at least their studies."""
    paths = {row["image"]: folder / row["image"] for row in rows}
    tags = {image: volumes.person(path) for image, path in paths.items() if volumes.is_dicom(path)}
    tags = {image: {k: "" if v.casefold() in NOBODY else v for k, v in of.items()} for image, of in tags.items()}
    several = len({of["PatientID"] for of in tags.values()}) > 1  # one for all is no name, but what was left of one
    order = volumes.PERSON if several else volumes.PERSON[1:]
    for row in rows:
        of = tags.get(row["image"], {})
        row["patient"] = next((of[name] for name in order if of.get(name)), "")


def _whose(path: str) -> str:
    """Where nobody names the patient of a file: all sequences of one are alike but for the ends of their names."""
    who, channel = brats.named(Path(path))
    return str(PurePosixPath(path).parent / who) if channel else path


def is_volume(path: Path) -> bool:
    """Whether a file may hold more than an image."""
    return volumes.is_nifti(path) or volumes.is_dicom(path)


def source_of(given: Given) -> dict[str, Any]:
    """Name, bytes, sha256 and path of what a reader brings: of the list, and of the files in it."""
    named, paths = given.table or given.folder, [given.folder / name for name in given.files()]
    parts = [json.dumps(given.listing[0], sort_keys=True), *map(sha256, paths)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    size = sum(path.stat().st_size for path in paths)
    return {"name": named.name, "bytes": size, "sha256": digest, "path": str(named)}


def copy(given: Given, raw: Path) -> list[str]:
    """Copy what is listed, and the list, into the new folder `raw`; returns the notes on the list."""
    rows, notes = given.listing
    for name in given.files():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.folder / name, raw / name)
    pd.DataFrame(rows).to_csv(raw / OWN_TABLE, index=False)
    return notes


@cache
def _read_list(listed: Path, changed: int) -> dict[str, dict[str, str]]:
    return {row["image"]: row for row in read_rows(listed)}


def _listed(raw: Path) -> dict[str, dict[str, str]]:
    """Image → row of the list, read again where it changed."""
    return _read_list(raw / OWN_TABLE, (raw / OWN_TABLE).stat().st_mtime_ns)


def facts(dataset: Dataset, raw: Path, channels: Sequence[str] | None) -> Dataset:
    """What the catalogue cannot know of `own`: its classes, the channels that are kept, whether there are masks."""
    classes = tuple(sorted({sample.label for sample in samples(dataset, raw)}))
    masks = dataset.mask_channels if "mask" in next(iter(_listed(raw).values())) else ()
    return replace(dataset, classes=classes, channels=tuple(channels or dataset.channels), mask_channels=masks)


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All files of the list, in its order."""
    return [Sample(path, row.get("label", LABEL), row.get("split", "")) for path, row in _listed(raw).items()]


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """The images of file `path` with their masks; slices of one grey value and without a mask are left out.  Raises
    `DataError` with the reason, where the file cannot be read or its mask does not fit.
    """
    row, channels, remarks = _listed(raw)[path], len(dataset.channels), ()
    known, places = {"patient": row.get("patient", "")}, [{}]
    if not is_volume(raw / path):
        image, remarks = examine((raw / path).read_bytes(), channels, look_for_colour=channels == 1)
        planes = image[None]
    elif channels > 1:
        raise DataError(f"holds 1 channel, not {channels}")
    else:
        planes, remarks = volumes.read(raw / path)
        if volumes.is_nifti(raw / path) or len(planes) > 1:
            known["patient"] = known["patient"] or _whose(path)  # who it is, nobody says, but it is one
            places = [{"path": f"{path}/{z:03d}", "slice": z} for z in range(len(planes))]
    masks = [None] * len(planes)
    if "mask" in row:
        known |= {"mask": row["mask"], "mask_sha256": sha256(raw / row["mask"])}
        masks = masks_of(raw, row, planes)
    found = [
        RawImage(plane, mask, known | place, remarks)
        for plane, mask, place in zip(planes, masks, places, strict=True)
        if len(planes) == 1 or plane.min() < plane.max() or (mask is not None and mask.any())
    ]
    if not found:
        raise DataError("every slice of it is of one grey value")
    return found


def masks_of(raw: Path, row: dict[str, str], images: np.ndarray) -> list[np.ndarray]:
    """The masks of a row, each H×W×1 of 0 and 1, that fit its images N×H×W[×C]."""
    path, what = raw / row["mask"], f"mask {row['mask']}"
    try:
        in_volume = is_volume(path)
        masks = volumes.read_mask(path, raw / row["image"]) if in_volume else decode(path.read_bytes())[None]
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    values = np.unique(masks).tolist()
    if masks.shape != images.shape[:3]:
        raise DataError(f"image {images.shape[:3]} and {what} {masks.shape} should have one shape")
    if not set(values) <= {0, 255} and not set(values) <= {0, 1}:
        raise DataError(f"{what} holds {values[:5]}; 0 and 1, or 0 and 255, are taken (PNG, no JPEG)")
    return list((masks > 0).astype(np.uint8)[..., None])
