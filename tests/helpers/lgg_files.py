"""The lower-grade gliomas in small, in the exact form of their publisher: TIFF files and a table of patients."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from archives import encoded
from PIL import Image

from datasets.sources.lgg import mask_beside
from datasets.store.index import SPLITS

HEADER = "Patient,histological_type,neoplasm_histologic_grade,laterality,gender,age_at_initial_pathologic,death01"
SIDE = 16
SLICES = [f"TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{number}.tif" for number in (1, 2, 10)]
SLICES += [f"TCGA_HT_A61B_19991127/TCGA_HT_A61B_19991127_{number}.tif" for number in (1, 2)]


def tiff(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "TIFF")


def slice_of(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Three sequences and a mask, empty in every other slice."""
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2 : 2 + number % 7, 3:9] = 255 * (number % 2)
    return pixels, mask


def files(paths: Sequence[str] = SLICES) -> dict[str, bytes]:
    """The files of an archive with these slices; nothing is known of the last patient."""
    patients = sorted({path[:12] for path in paths})
    rows = [HEADER, *(f"{patient},1,2,2,1,{30 + n % 40},0" for n, patient in enumerate(patients[:-1]))]
    found = {"kaggle_3m/README.md": b"LGG", "kaggle_3m/data.csv": "\n".join([*rows, f"{patients[-1]},,,,,,"]).encode()}
    for number, path in enumerate(paths):
        for name, pixels in zip((path, mask_beside(path)), slice_of(number), strict=True):
            found[f"kaggle_3m/{name}"] = tiff(pixels)
    return found


def published() -> dict[str, bytes]:
    """All slices under their names: the committed table then says whose they are."""
    return files(pd.read_csv(SPLITS / "lgg.csv").path)
