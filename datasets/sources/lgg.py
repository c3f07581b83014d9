"""Reads Buda's lower-grade gliomas: a TIFF of three sequences a slice, its mask beside it, and a table of patients."""

import re
from pathlib import Path, PurePosixPath

from datasets.catalog import BrokenArchive, Dataset
from datasets.reading import read_table
from datasets.sources import Sample
from datasets.sources.own import masks_of
from datasets.store import manifest
from datasets.store.preprocess import RawImage, examine

FILE = re.compile(r"((TCGA_[A-Z]{2}_[A-Z0-9]{4})_\d{8})_(\d+)(_mask)?\.tif")  # examination, patient, slice, which it is
TABLE, PATIENT = "data.csv", "Patient"
# Column of a manifest → column of the publisher's table, "" where nothing is known; what the codes mean, nobody says.
FURTHER = {
    "age": "age_at_initial_pathologic",
    "sex_code": "gender",
    "grade_code": "neoplasm_histologic_grade",
}


def target(dataset: Dataset, member: str) -> str | None:
    """EXAMINATION/FILE of a slice or a mask, and the table at the top."""
    name = PurePosixPath(member).name
    found = FILE.fullmatch(name)
    return f"{found[1]}/{name}" if found else name if name == TABLE else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All slices, patient by patient, in their order, with what the table says of the patient.

    Raises `BrokenArchive`: no table, a table without its columns, a patient twice or without a row, no slice, a slice
    without its mask, or a mask without its slice.
    """
    table = read_table(raw / TABLE, dataset.again, needs=(PATIENT, *FURTHER.values()))
    for patient in table[PATIENT][table[PATIENT].duplicated()]:
        raise BrokenArchive(f"{TABLE}: {patient} stands there twice; {dataset.again}")
    rows, found = table.set_index(PATIENT).to_dict("index"), []
    files = {path.relative_to(raw).as_posix(): FILE.fullmatch(path.name) for path in raw.glob("*/*.tif")}
    images = {path: name for path, name in files.items() if not name[4]}
    if not images:
        raise BrokenArchive(f"{dataset.name}: holds no slice; {dataset.again}")
    for path in sorted({mask_beside(path) for path in images} ^ (files.keys() - images)):
        raise BrokenArchive(f"{path}: this mask or its slice is missing; {dataset.again}")
    for path, (folder, patient, number, _) in ((path, name.groups()) for path, name in images.items()):
        if patient not in rows:
            raise BrokenArchive(f"{TABLE}: no row of {patient}, whose slices are here; {dataset.again}")
        facts = {"patient": patient} | {ours: rows[patient][column] for ours, column in FURTHER.items()}
        found.append(((folder, int(number)), Sample(path, dataset.classes[0], facts=facts)))
    return [sample for _, sample in sorted(found, key=lambda one: one[0])]


def mask_beside(path: str) -> str:
    """The mask of a slice."""
    return path.removesuffix(".tif") + "_mask.tif"


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """The slice of one file with its mask."""
    image, _ = examine((raw / path).read_bytes(), len(dataset.channels))
    mask = mask_beside(path)
    (outline,) = masks_of(raw, {"image": path, "mask": mask}, image[None])
    return [RawImage(image, outline, {"mask": mask, "mask_sha256": manifest.sha256(raw / mask)})]
