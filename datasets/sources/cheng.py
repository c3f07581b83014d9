"""Cheng's figshare set: one MATLAB file a slice, with tumour mask, class and patient code."""

import io
import re
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from datasets.catalog import DataError, Dataset
from datasets.sources.sample import Sample
from datasets.store.preprocess import RawImage, to_uint8


def target(dataset: Dataset, member: str) -> str | None:
    """FILE of an archive's member: the slices are numbered, in no folder that matters."""
    path = PurePosixPath(member)
    return path.name if re.fullmatch(r"\d+\.mat", path.name) else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All slices; their class and patient stand in the files."""
    return [Sample(path.name, "", "") for path in sorted(raw.glob("*.mat"))]


def read(dataset: Dataset, raw: Path, path: str, bits: int = 8) -> list[RawImage]:
    """The slice of one file: MATLAB v7.3 = HDF5, arrays transposed; `PID` is the patient's code in characters."""
    try:
        with h5py.File(io.BytesIO((raw / path).read_bytes()), "r") as file:
            data = file["cjdata"]
            pixels, mask = data["image"][()].T, data["tumorMask"][()].T
            pid = "".join(chr(int(character)) for character in data["PID"][()].ravel())
            label = dataset.folders[str(int(data["label"][()].item()))]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"not one of figshare's .mat files ({str(error).splitlines()[0][:90]})") from error
    if pixels.ndim != 2 or pixels.shape != mask.shape:
        raise DataError(f"image {pixels.shape} and mask {mask.shape} should have one shape H×W")
    facts = {"label": label, "pid": pid, "patient": patient(pid)}
    return [RawImage(to_uint8(pixels), (mask != 0).astype(np.uint8)[..., None], facts)]


def patient(pid: str) -> str:
    """Cheng's patient of a `PID`: without the letter that ends some (MR040240, MR040240B), 209 of 233 ids.

    Cautious: the letters are taken to count examinations.  Should they tell people apart after all, folds by
    patient only get a little coarser.
    """
    return re.sub(r"(?<=\d)[A-Za-z]$", "", pid.strip())
