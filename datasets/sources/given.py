"""What a reader brings: a folder of classes, or a table that names images, masks, patients and labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datasets.catalog import DataError
from datasets.facts import OWN_TABLE
from datasets.sources import table, volumes
from datasets.sources.folders import IMAGE_SUFFIXES, NO_IMAGES
from datasets.store.spelling import one_spelling

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
    if not (folder / row["image"]).is_dir():
        return [row]
    files = [file for file in sorted((folder / row["image"]).iterdir()) if file.is_file() and volumes.is_dicom(file)]
    if not files or "mask" in row:
        wrong = "has a mask, which only a file can have" if files else "holds no DICOM file"
        raise DataError(f"{named}: the folder {row['image']} {wrong}")
    return [row | {"image": file.relative_to(folder).as_posix()} for file in files]


def _of_folders(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """A row an image of a folder of classes, by class and path."""
    tops = _subfolders(folder)
    split_of = {top: SPLITS.get(top.name.casefold(), "") for top in tops}
    if tops and all(split_of.values()) and all(_subfolders(top) for top in tops):
        classes = [(kind, split_of[top]) for top in tops for kind in _subfolders(top)]
    else:
        classes = [(top, "") for top in tops]
    if masks := [kind.name for kind, _ in classes if kind.name.casefold() in MASKS]:
        raise DataError(
            f"{folder / OWN_TABLE}: not there, and '{masks[0]}' is no class; write a row an image: image,mask,patient"
        )
    rows, left_out = [], [file for file in sorted(folder.iterdir()) if _is_of_use(file)]
    for kind, split in classes:
        for file in sorted(kind.rglob("*")):
            if any(part.startswith(".") for part in file.relative_to(folder).parts) or not _is_of_use(file):
                continue
            if file.suffix.lower() in IMAGE_SUFFIXES or volumes.is_nifti(file) or volumes.is_dicom(file):
                row = {"image": file.relative_to(folder).as_posix(), "label": kind.name}
                rows.append(row | ({"split": split} if split else {}))
            else:
                left_out.append(file)
    if not rows:
        raise DataError(
            f"{folder}: neither a table {OWN_TABLE} nor folders of classes with images in them; "
            "name a table with --labels"
        )
    first = ", ".join(str(file.relative_to(folder)) for file in left_out[:3])
    return rows, [f"{len(left_out)} files are no images in a class and were left out, {first} first"] * bool(left_out)


def _subfolders(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.name.casefold() not in HIDDEN
    ]


def _is_of_use(file: Path) -> bool:
    return file.is_file() and file.name.lower() not in NO_IMAGES and not file.name.startswith(".")


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
