"""Reads ReMIND as TCIA ships it: `…/ReMIND-001/DATE-Preop…/SERIES/1-01.dcm`, and a table of diagnoses beside it
(`.xlsx` as published, or saved as `.csv`). MR series are read; ultrasound and segmentations are left out.
"""

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from datasets.catalog import BrokenArchive, DataError, Dataset
from datasets.reading import reading
from datasets.sources import Sample, volumes
from datasets.sources.dicom import examine, read_header
from datasets.store import manifest
from datasets.store.preprocess import RawImage

PATIENT = re.compile(r"ReMIND-(\d+)$")
TABLE = re.compile(r".*clinical.*\.(xlsx|csv)$", re.IGNORECASE)
CASE, DIAGNOSIS = "Case Number", "Histopathology"
FEWEST = 7  # patients of a diagnosis: of fewer, 70/15/15 by patient leaves a part without any
SLICES = 399  # of a patient, S1's number
MODALITY = "MR"
SPARSE = 7  # of every so many pixels one is looked at for the range of a series


def target(dataset: Dataset, member: str) -> str | None:
    """PATIENT/STUDY/SERIES/FILE of a DICOM file, and the clinical table at the top."""
    path = PurePosixPath(member)
    if path.name.startswith("._"):
        return None
    if TABLE.match(path.name):
        return path.name
    place = next((i for i, part in enumerate(path.parts) if PATIENT.match(part)), None)
    known = place is not None and path.suffix.lower() == ".dcm" and len(path.parts) > place + 1
    return "/".join(path.parts[place:]) if known else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """The patients that have a diagnosis which at least `FEWEST` of those here have, sorted.

    Raises `BrokenArchive`: no table or patients, a table without its columns, a patient twice or without a diagnosis.
    """
    folders = sorted(path.name for path in raw.iterdir() if PATIENT.match(path.name))
    table = next((path for path in sorted(raw.iterdir()) if TABLE.match(path.name)), None)
    if not folders or table is None:
        missing = "the clinical table (.xlsx or .csv) is missing" if folders else "no folder ReMIND-NUMBER is in it"
        raise BrokenArchive(f"{dataset.name}: {missing}; {dataset.again}")
    with reading(table.name, dataset.again, f"no table with the columns {CASE} and {DIAGNOSIS}"):
        rows = pd.read_excel(table) if table.suffix.lower() == ".xlsx" else pd.read_csv(table)
        cases = rows[CASE].astype(str).str.extract(r"(\d+)(?:\.0)?$")[0].astype(int)
        diagnoses = rows[DIAGNOSIS].fillna("").astype(str).str.strip().str.lower().set_axis(cases)
    if len(twice := cases[cases.duplicated()]):
        raise BrokenArchive(f"{table.name}: case {twice.iloc[0]} stands in the table twice; {dataset.again}")
    known = pd.Series({name: diagnoses.get(int(PATIENT.match(name)[1]), "") for name in folders})
    if len(unknown := known.index[known == ""]):
        raise BrokenArchive(f"{table.name}: no diagnosis of {', '.join(unknown[:3])}; {dataset.again}")
    kept = known[known.groupby(known).transform("size") >= FEWEST]
    if kept.empty:
        raise BrokenArchive(f"{table.name}: no diagnosis has {FEWEST} patients, as a split needs; {dataset.again}")
    return [Sample(name, label) for name, label in kept.items()]


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """At most `SLICES` slices of a patient, evenly spaced over all of its MR series one after the other.

    A series, or each direction and echo in it, is scaled as a whole, from its 1st to its 99th percentile; slices of
    different size keep theirs.  Raises
    `DataError` for a file that cannot be read, which it names, and a patient without an MR slice.
    """
    series, total = defaultdict(list), 0
    for file in (file for file in manifest.files(raw / path) if file.suffix.lower() == ".dcm"):
        header = read_header(file)
        if header.modality in (MODALITY, ""):  # by position where it is known, otherwise by number, then by name
            place = (True, 0.0) if np.isnan(header.position) else (False, header.position)
            series[header.series or file.parent.name, header.stack].append((place, header.number, file.name, file))
            total += header.frames
    if not total:
        raise DataError(f"{path}: no slice of an {MODALITY} series")
    chosen = set(np.linspace(0, total - 1, min(SLICES, total)).round().astype(int).tolist())
    images, passed = [], 0
    for files in series.values():  # one series in memory at a time
        planes = [plane for *_, file in sorted(files) for plane in examine(file)[0]]
        low, high = volumes.ends(np.concatenate([plane.ravel()[::SPARSE] for plane in planes]))
        for plane in planes:
            if passed in chosen:
                facts = {"path": f"{path}/{len(images):03d}", "patient": path, "slice": len(images)}
                facts |= {"width": plane.shape[1], "height": plane.shape[0]}
                images.append(RawImage(volumes.scaled(plane, low, high), facts=facts))
            passed += 1
    return images
