"""ChestX-ray14 as it is published: X-rays in twelve folders or one, a table of findings, and two lists of a split.

Kaggle's sample of it has `sample_labels.csv` and no lists.
"""

import re
from pathlib import Path, PurePosixPath

from datasets.catalog import NO_FINDING, BrokenArchive, Dataset
from datasets.reading import read_table
from datasets.sources import Sample
from datasets.sources.folders import read as read  # one image a file

IMAGE = re.compile(r"\d{8}_\d{3}\.png")
SAMPLE = "sample_labels.csv"
TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv", SAMPLE)
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
INDEX, FINDINGS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
# Column of a manifest → column of the publisher's table, "" in a table without it.
FURTHER = {"follow_up": "Follow-up #", "age": "Patient Age", "sex": "Patient Gender", "position": "View Position"}


def target(dataset: Dataset, member: str) -> str | None:
    """Path under `raw/`: images by thousands of patients, so that no folder holds all; table and lists at the top."""
    name = PurePosixPath(member).name
    if IMAGE.fullmatch(name):
        return f"images/{name[:5]}/{name}"
    return name if name in (*TABLES, *LISTS.values()) else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """The images that are there, sorted, with findings ("Mass|Nodule", or "No Finding") and published split.

    Raises `BrokenArchive`: no table, a table without its columns, an image without a row, a row twice, an unknown
    finding, one list without the other, or an image in none of them.
    """
    rows, found = _rows(dataset, raw), []
    lists = {split: raw / name for split, name in LISTS.items() if (raw / name).is_file()}
    if len(lists) == 1:
        raise BrokenArchive(f"{dataset.name}: one list of the split is there without the other; {dataset.again}")
    split = {name: split for split, path in lists.items() for name in path.read_text(encoding="utf-8").split()}
    for path in sorted(raw.glob("images/*/*.png")):
        row = rows.get(path.name)
        if row is None:
            raise BrokenArchive(f"{dataset.name}: {path.name} has no row in the table of findings; {dataset.again}")
        if split and path.name not in split:
            raise BrokenArchive(f"{dataset.name}: {path.name} is in neither of the lists of the split; {dataset.again}")
        names = row[FINDINGS].split("|")
        if names != [NO_FINDING] and not (set(names) <= set(dataset.findings) and len(set(names)) == len(names)):
            raise BrokenArchive(f"{path.name}: '{row[FINDINGS]}' is not of the known findings; {dataset.again}")
        facts = {"patient": row[PATIENT]} | {name: row.get(column, "") for name, column in FURTHER.items()}
        where = path.relative_to(raw).as_posix()
        found.append(Sample(where, "|".join(sorted(names)), split.get(path.name, ""), facts))
    if not found:
        raise BrokenArchive(f"{dataset.name}: holds no X-ray; {dataset.again}")
    return found


def _rows(dataset: Dataset, raw: Path) -> dict[str, dict[str, str]]:
    """Image → its row in the table of findings."""
    tables = [raw / name for name in TABLES if (raw / name).is_file()]
    if not tables:
        raise BrokenArchive(f"{dataset.name}: no table of findings ({', '.join(TABLES)}); {dataset.again}")
    table = tables[0]
    rows = read_table(table, dataset.again, needs=(INDEX, FINDINGS, PATIENT))
    for what, wrong in (("stands there twice", rows[INDEX].duplicated()), ("has no patient", rows[PATIENT] == "")):
        for line in rows.index[wrong]:
            raise BrokenArchive(f"{table.name}, line {line + 2}: {rows[INDEX][line]} {what}; {dataset.again}")
    return rows.set_index(INDEX).to_dict("index")
