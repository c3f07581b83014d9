"""Small heads and blobs for the tests of a reader's own sets, and folders of them."""

from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from PIL import Image

from datasets import download

SIDE = 64


def head(seed: int, side: int = SIDE) -> np.ndarray:
    """A head of one person: an ellipse with a smooth texture of its own, uint8."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.uniform(60, 240, (6, 6)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    inside = np.zeros((side, side), np.uint8)
    cv2.ellipse(inside, (side // 2, side // 2), (side * 3 // 8, side * 7 // 16), 0, 0, 360, 1, -1)
    return np.clip(texture * inside, 0, 255).astype(np.uint8)


def volume(path: Path, shape: tuple = (40, 48, 6), seed: int = 0, value: float | None = None) -> Path:
    """Write a NIfTI volume of noise, or of one `value`, whose lowest slice is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).uniform(10, 900, shape).astype(np.float32)
    voxels[:, :, 0] = 0
    if value is not None:
        voxels[:] = value
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 3, 1])), path)
    return path


def blob(row: int, column: int, radius: int = 4, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (column, row), radius, 255, -1)
    return mask


def own(*options: str | Path) -> int:
    """`download.py own` in this process, small."""
    return download.main(["own", *map(str, options), "--size", "64", "--workers", "1"])


def filled(folder: Path, names: list[str]) -> Path:
    """A folder with images under these names; what is neither PNG nor TIFF is an empty file."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith((".png", ".tif")):
            Image.fromarray(head(i)).save(folder / name)
        else:
            (folder / name).touch()
    return folder


def classes(folder: Path, names: list[str], each: int = 8) -> Path:
    """A folder with a folder for each class."""
    return filled(folder, [f"{name}/{i}{'.png' if i % 2 else '.TIF'}" for name in names for i in range(each)])


def tabled(folder: Path, cases: list[tuple[str, np.ndarray, np.ndarray]]) -> Path:
    """A folder with a table of patients, images and masks."""
    lines = ["image,mask,patient"]
    for i, (patient, image, mask) in enumerate(cases):
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{kind}/{i:02}.png")
        lines.append(f"images/{i:02}.png,masks/{i:02}.png,{patient}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder


def people(number: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [(f"p{i}", head(i), blob(30, 30)) for i in range(number)]


def coloured(number: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Patients with an image of three channels that differ."""
    return [(f"p{i}", np.stack([head(100 * i + c) for c in range(3)], axis=2), blob(30, 30)) for i in range(number)]
