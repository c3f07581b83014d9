"""ReMIND in small, as TCIA ships it: anonymous DICOM series of seventeen patients and a table of diagnoses."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dicom_files import dicom
from pydicom.uid import generate_uid

DIAGNOSES = ["Glioblastoma"] * 8 + ["Astrocytoma"] * 7 + ["Ependymoma"] * 2


def table(diagnoses: list[str], kind: str = "xlsx", cases: Sequence[int] = ()) -> bytes:
    numbers = cases or range(1, len(diagnoses) + 1)
    rows = pd.DataFrame({"Case Number": numbers, "Age": 50, "Histopathology": diagnoses})
    buffer = io.BytesIO()
    rows.to_excel(buffer, index=False) if kind == "xlsx" else buffer.write(rows.to_csv(index=False).encode())
    return buffer.getvalue()


def archive(folder: Path, clinical: bytes | None, kind: str = "xlsx") -> Path:
    """ReMIND as the NBIA Data Retriever lays it out, zipped with its clinical table; seventeen small patients."""
    place, rng = folder / "files/manifest-1/ReMIND", np.random.default_rng(0)
    for patient in range(1, len(DIAGNOSES) + 1):
        series = place / f"ReMIND-{patient:03d}" / "12-25-1982-NA-Preop-1" / "3.0-AXT1-2"
        base, uid = rng.integers(100, 900, (16, 20)), generate_uid()
        for z in range(3):
            pixels = np.resize(base + 40 * z, (16 if z else 24, 20)).astype(np.int16)  # sizes are mixed
            where = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 5.0 * (3 - z)]}
            dicom(series / f"1-{z + 1:02d}.dcm", pixels, SeriesInstanceUID=uid, InstanceNumber=z + 1, **where)
        dicom(series.parent / "9.0-US-7/1-1.dcm", Modality="US")
        dicom(series.parent / "300.0-tumor-seg/1-1.dcm", Modality="SEG", PixelData=None)
    (place.parent / "metadata.csv").write_text("Series UID\n")
    if clinical is not None:
        (folder / f"files/ReMIND-Dataset-Clinical-Data-September-2023.{kind}").write_bytes(clinical)
    with zipfile.ZipFile(folder / "remind.zip", "w") as file:
        for path in sorted(path for path in (folder / "files").rglob("*.*") if path.is_file()):
            file.write(path, path.relative_to(folder / "files"))
    return folder / "remind.zip"
