"""Publishers' archives in small, made here with a few tiny images, `download.py` run on them, and the real archives."""

import io
import os
import subprocess
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets import catalog, download
from datasets.store import manifest

SCRIPT = Path(download.__file__)
CURATED = ("brain-tumor-mri", "sartaj", "cheng", "navoneel", "brain-tumor-44c")  # real sets that curation compares
PIDS = ("100360", "MR040240", "MR040240B")  # two patients


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """An image as a file of a kind that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def hdf5(arrays: dict[str, np.ndarray], userblock: int = 0) -> bytes:
    """Arrays as an HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=userblock) as file:
        for name, values in arrays.items():
            file[name] = values
    return buffer.getvalue()


def image(seed: int, side: int = 48, kind: str = "JPEG", mode: str = "L") -> bytes:
    noise = np.random.default_rng(seed).integers(60, 255, (side, side), dtype=np.uint8)
    return encoded(Image.fromarray(noise).convert(mode), kind)


def folders(name: str, each: int = 2, side: int = 48, kind: str = "JPEG", inside: str = "") -> dict[str, bytes]:
    """The files of a Kaggle set with `each` images in every class folder."""
    facts = catalog.get(name)
    places = [f"{split}/{folder}" for split in facts.splits or ("",) for folder in facts.folders]
    paths = [f"{place}/{i}.jpg".lstrip("/") for place in places for i in range(each)]
    return {inside + path: image(seed, side, kind) for seed, path in enumerate(paths)}


def mat(label: int, pid: str, seed: int = 0, *shown: np.ndarray) -> bytes:
    """One figshare file: HDF5 behind 512 bytes, transposed, 16 bits; `shown`: image and mask, by default of a box."""
    box = np.zeros((40, 60), np.uint8)
    box[5:15, 20:40] = 1
    pixels, mask = shown or (np.random.default_rng(seed).integers(500, 4000, box.shape, dtype=np.int16), box)
    code = np.array([[ord(character)] for character in pid], np.uint16)
    held = {"label": np.array([[float(label)]]), "PID": code, "image": pixels.T, "tumorMask": mask.T}
    return hdf5({f"cjdata/{name}": values for name, values in held.items()}, userblock=512)


def cheng(nested: bool = True) -> dict[str, bytes]:
    mats = {f"{i + 1}.mat": mat(i % 3 + 1, PIDS[i % 3], seed=i) for i in range(12)}
    if not nested:
        return mats
    inner = {f"brainTumorDataPublic_{i + 1}-{i + 6}.zip": dict(list(mats.items())[i : i + 6]) for i in (0, 6)}
    return {name: zipped(files) for name, files in inner.items()} | {"README.txt": b"Cheng", "cvind.mat": b"folds"}


NAVONEEL = {
    "yes/Y1.jpg": image(0),
    "yes/Y10.JPG": image(1, mode="RGB"),
    "yes/Y3.png": image(2, kind="PNG", mode="RGBA"),
    **{f"no/{name}": image(3 + i) for i, name in enumerate(("1 no.jpeg", "no 4.jpg", "N15.jpg", "no.jpg"))},
}
TWICE = NAVONEEL | {f"brain_tumor_dataset/{path}": content for path, content in NAVONEEL.items()}
BR35H = {f"{folder}/{stem}{i}.jpg": image(10 * i) for folder, stem in (("yes", "y"), ("no", "no")) for i in range(3)}
BR35H |= {"pred/pred0.jpg": image(7), "Br35H-Mask-RCNN/TRAIN/y1.jpg": image(8), "no/No12.jpg": image(9)}


def under_their_names(name: str) -> dict[str, bytes]:
    """Images made here under the publisher's names: the committed tables then say who is related to whom."""
    kinds, paths = {".png": "PNG", ".webp": "WEBP"}, manifest.originals(name)
    return {path: image(i, kind=kinds.get(Path(path).suffix, "JPEG")) for i, path in enumerate(paths)}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(folder: Path, content: bytes | dict[str, bytes], name: str = "archive.zip") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else zipped(content))
    return path


def bring(name: str, archive: Path | None = None, *options: str) -> int:
    """`download.py` in this process, on one core."""
    with_archive = ["--archive", str(archive), "--partial"] if archive else []  # of a few images
    return download.main([name, *with_archive, "--workers", "1", *options])


def left(root: Path) -> list[str]:
    """What lies in the data root, the lock files apart."""
    return sorted(p.name for p in root.iterdir() if not p.name.endswith(".lock")) if root.exists() else []


def until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def real_archive(name: str) -> Path:
    """The real archive of a data set, under the name that the tests' folder has for it; skips where there is none."""
    archives = os.environ.get("BRAIN_MRI_ARCHIVES")
    if not archives:
        pytest.skip("BRAIN_MRI_ARCHIVES names no folder with the real archives")
    names = {"navoneel": "navoneel.zip", "chest-xray14": "nih-chest-xray-sample.zip"}
    archive = Path(archives) / names.get(name, catalog.get(name).archive)
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not among the real archives")
    return archive
