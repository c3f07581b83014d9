"""Patients of BraTS in small, in both forms of their publishers."""

import nibabel as nib
import numpy as np
from archives import hdf5

SHAPE = (24, 20, 155)  # x, y, z
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # BraTS's own affine, but for the origin
SEQUENCES = ("t1", "t1ce", "t2", "flair")


def patient(number: int = 1) -> dict[str, np.ndarray]:
    """Four sequences and a segmentation, x × y × z; a brain that is not symmetric in any direction."""
    rng = np.random.default_rng(number)
    brain = np.zeros(SHAPE, bool)
    brain[4:20, 3:15, 20:140] = True
    out = {name: np.where(brain, rng.integers(50, 900, SHAPE), 0).astype(np.int16) for name in SEQUENCES}
    seg = np.zeros(SHAPE, np.uint8)
    seg[6:14, 5:12, 60:90] = 2
    seg[7:11, 6:10, 65:85] = 4
    seg[8:10, 7:9, 70:80] = 1
    return out | {"seg": seg}


def nifti(array: np.ndarray, affine: np.ndarray = LPS) -> bytes:
    return nib.Nifti1Image(array, affine).to_bytes()


def volumes(arrays: dict[str, np.ndarray], name: str = "BraTS20_Training_001", affine=LPS) -> dict[str, bytes]:
    """Files of one patient in the NIfTI layout."""
    return {f"{name}/{name}_{kind}.nii": nifti(array, affine) for kind, array in arrays.items()}


def slices(arrays: dict[str, np.ndarray], number: int = 1) -> dict[str, bytes]:
    """Files of one patient in Kaggle's layout: a slice each, as floats."""
    files = {}
    masks = np.stack([arrays["seg"] == label for label in (1, 2, 4)], axis=-1).astype(np.uint8)
    for z in range(SHAPE[2]):
        image = np.stack([arrays[kind][:, :, z] for kind in SEQUENCES], axis=-1) / 100 - 1.5
        path = f"BraTS2020_training_data/content/data/volume_{number}_slice_{z}.h5"
        files[path] = hdf5({"image": image, "mask": masks[:, :, z]})
    return files
