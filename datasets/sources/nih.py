"""ChestX-ray14 as it is published: X-rays in twelve folders or one, a table of findings, and two lists of a split.

The whole set has `Data_Entry_2017.csv`, `train_val_list.txt` and `test_list.txt`; Kaggle's sample of it has
`sample_labels.csv` and no lists. `layouts.py` calls this.
"""

import re
from pathlib import Path, PurePosixPath

from datasets.catalog import DataError, Dataset
from datasets.further_sets import NO_FINDING
from datasets.sources.sample import BrokenArchive, Sample
from datasets.store.manifest import read_rows
from datasets.store.preprocess import RawImage, decode

IMAGE = re.compile(r"\d{8}_\d{3}\.png")
SAMPLE = "sample_labels.csv"
TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv", SAMPLE)
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
FURTHER = {  # column of a manifest → column of the publisher's table, "" in a table without it
    "follow_up": "Follow-up #",
    "age": "Patient Age",
    "sex": "Patient Gender",
    "position": "View Position",
}


def target(dataset: Dataset, member: str) -> str | None:
    """Path under `raw/`: images by thousands of patients, so that no folder holds all; table and lists at the top."""
    name = PurePosixPath(member).name
    if IMAGE.fullmatch(name):
        return f"images/{name[:5]}/{name}"
    return name if name in (*TABLES, *LISTS.values()) else None


def is_sample(raw: Path) -> bool:
    """Whether this is the sample of the set, which holds any number of its images and no lists."""
    return (raw / SAMPLE).is_file()


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """The images that are there, sorted, with findings ("Mass|Nodule", or "No Finding") and published split.

    Raises:
        BrokenArchive: no table, a table without its columns, an image without a row, a row twice, an unknown finding,
            one list without the other, or an image in none of them.
    """
    rows = _rows(dataset, raw)
    split = _split(raw)
    found = []
    for path in sorted(raw.glob("images/*/*.png")):
        row = rows.get(path.name)
        if row is None:
            raise BrokenArchive(f"{dataset.name}: {path.name} has no row in the table of findings; {_again(dataset)}")
        if split and path.name not in split:
            raise BrokenArchive(f"{dataset.name}: {path.name} is in neither of {' and '.join(LISTS.values())}")
        facts = {"patient": row["Patient ID"]} | {name: row.get(column) or "" for name, column in FURTHER.items()}
        where = f"images/{path.parent.name}/{path.name}"
        found.append(Sample(where, _findings(dataset, row), split.get(path.name, ""), facts))
    if not found:
        raise BrokenArchive(f"{dataset.name}: holds no X-ray; {_again(dataset)}")
    return found


def _rows(dataset: Dataset, raw: Path) -> dict[str, dict[str, str]]:
    table = next((raw / name for name in TABLES if (raw / name).is_file()), None)
    if table is None:
        raise BrokenArchive(f"{dataset.name}: neither {' nor '.join(TABLES)} is there; {_again(dataset)}")
    rows, by_image = read_rows(table), {}
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise BrokenArchive(f"{table.name}: its columns should be {', '.join(COLUMNS)}, …; {_again(dataset)}")
    for line, row in enumerate(rows, start=2):
        if row["Image Index"] in by_image:
            raise BrokenArchive(f"{table.name}, line {line}: {row['Image Index']} stands in the table twice")
        if not row["Patient ID"]:
            raise BrokenArchive(f"{table.name}, line {line}: {row['Image Index']} has no patient")
        by_image[row["Image Index"]] = row
    return by_image


def _findings(dataset: Dataset, row: dict[str, str]) -> str:
    names = row["Finding Labels"].split("|")
    known = names == [NO_FINDING] or (set(names) <= set(dataset.findings) and len(set(names)) == len(names))
    if not known:
        raise BrokenArchive(
            f"{row['Image Index']}: '{row['Finding Labels']}' is not of the {len(dataset.findings)} findings"
        )
    return "|".join(sorted(names))


def _split(raw: Path) -> dict[str, str]:
    """Image → "train" or "test"; nothing where there are no lists."""
    here = {split: raw / name for split, name in LISTS.items() if (raw / name).is_file()}
    if len(here) == 1:
        raise BrokenArchive(f"{next(iter(here.values())).name} is there without the other list of the split")
    names = {split: path.read_text(encoding="utf-8").split() for split, path in here.items()}
    return {name: split for split, listed in names.items() for name in listed}


def _again(dataset: Dataset) -> str:
    return f"take {dataset.archive} from {dataset.url}"


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """The one image of a file."""
    try:
        return [RawImage(decode((raw / path).read_bytes()))]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
