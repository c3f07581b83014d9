"""Reads Cheng's figshare set: one MATLAB file a slice, with tumour mask, class and patient code."""

import io
import re
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from datasets import hdf5
from datasets.catalog import DataError, Dataset
from datasets.reading import one_line
from datasets.sources import Sample
from datasets.store.preprocess import RawImage, to_uint8

LONGEST_PID = 64


def target(dataset: Dataset, member: str) -> str | None:
    """FILE of an archive's member: the slices are numbered, in no folder that matters."""
    name = PurePosixPath(member).name
    return name if re.fullmatch(r"\d+\.mat", name) else None


def samples(dataset: Dataset, raw: Path) -> list[Sample]:
    """All slices; their class and patient stand in the files."""
    return [Sample(path.name) for path in sorted(raw.glob("*.mat"))]


def read(dataset: Dataset, raw: Path, path: str) -> list[RawImage]:
    """The slice of one file: MATLAB v7.3 = HDF5, arrays transposed; `PID` is the patient's code in characters."""
    try:
        with h5py.File(io.BytesIO((raw / path).read_bytes()), "r") as file:
            pixels, mask = (hdf5.read(file, f"cjdata/{name}").T for name in ("image", "tumorMask"))
            codes = hdf5.read(file, "cjdata/PID").ravel()
            pid = "".join(chr(int(code)) for code in codes[:LONGEST_PID])
            if codes.size > LONGEST_PID or not pid.strip().isprintable():  # no table holds half a surrogate pair
                raise ValueError("its PID is no printable text")
            label = dataset.folders[str(int(hdf5.read(file, "cjdata/label").item()))]
            scaled = to_uint8(pixels)
    except Exception as error:  # of all kinds, as in `reading`; whoever lists broken files names this one
        raise DataError(f"not one of figshare's .mat files ({one_line(error)})") from error
    if pixels.ndim != 2 or pixels.shape != mask.shape:
        raise DataError(f"image {pixels.shape} and mask {mask.shape} should have one shape H×W")
    facts = {"label": label, "pid": pid, "patient": patient(pid)}
    return [RawImage(scaled, (mask != 0).astype(np.uint8)[..., None], facts)]


def patient(pid: str) -> str:
    """Cheng's patient of a `PID`: without the letter that ends some (MR040240, MR040240B), 209 of 233 ids. The letters
    are assumed to number examinations; should they tell patients apart after all, the folds are only a little coarser.
    """
    return re.sub(r"(?<=\d)[A-Za-z]$", "", pid.strip())
