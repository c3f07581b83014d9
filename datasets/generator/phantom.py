"""Makes the phantom, the embedded default data set: brains with tumours, in the form that every other set has.

This file draws the patients, splits them as carelessly as the real sets were, and writes `images.h5` and
`manifest.csv`. Heads: `anatomy.py`, tumours: `tumours.py`, images: `scanner.py`, planted faults: `faults.py`.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from datasets.catalog import CATALOG, CLASSES, DataError
from datasets.generator import faults, scanner
from datasets.store.manifest import write_manifest
from datasets.store.packing import CHECKSUM, GZIP
from datasets.store.parallel import cores, in_order

VERSION = 1
SHARES = {"glioma": 0.25, "meningioma": 0.25, "notumor": 0.25, "pituitary": 0.25}
CARELESS = 0.35  # share of the patients whose slices were dealt to train and test one by one
TEST = 0.2  # share of the test set among the other patients
SMALL = 300 * 128**2  # pixels that one process draws as fast as several
MOST_WORKERS = 8  # more would start longer than they draw
MINIMUM = {"seed": 0, "size": 64, "patients": 24, "slices": 2}


def generate(
    dest: Path, *, seed: int = 0, size: int = 128, patients: int = 180, slices: int = 4, progress: bool = False
) -> None:
    """Make the phantom in folder `dest`: `images.h5` and `manifest.csv`, rows in the same order.

    `image` is uint8 N × size × size × 4 (T1, T1c, T2, FLAIR), `mask` uint8 0/1 N × size × size × 3 (NCR, ED, ET);
    N = `patients` · `slices` images and the planted copies among them. The same arguments give the same bytes.
    Raises `DataError` for arguments too small and for a folder that cannot be written.
    """
    for name, value in (("seed", seed), ("size", size), ("patients", patients), ("slices", slices)):
        if value < MINIMUM[name]:
            raise DataError(f"phantom: {name}={value} is too small; ask for at least {MINIMUM[name]}")
    dest = Path(dest)
    with _writing(dest):  # before the drawing, so that a folder that cannot be written is reported at once
        dest.mkdir(parents=True, exist_ok=True)
    labels = _cast(patients, np.random.default_rng([seed, 0]))
    images, masks = _photograph(labels, seed, size, slices, progress)
    rows = _published(labels, slices, np.random.default_rng([seed, 2]))
    images, masks, rows = faults.plant(images, masks, rows, np.random.default_rng([seed, 3]))
    order = sorted(range(len(rows)), key=lambda i: rows[i]["path"])
    rows = [_complete(rows[i], images[i]) for i in order]
    with _writing(dest):
        _write_store(dest / "images.h5", images[order], masks[order], seed)
        write_manifest(dest / "manifest.csv", rows)


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"phantom: cannot write {dest}: {reason}; free space or choose $BRAIN_MRI_DATA") from error


def _cast(patients: int, rng: np.random.Generator) -> list[str]:
    """The class of each patient, in `SHARES`, shuffled."""
    bounds = np.rint(np.cumsum([0, *SHARES.values()]) * patients).astype(int)
    labels = [c for c, n in zip(SHARES, np.diff(bounds), strict=True) for _ in range(n)]
    return [labels[i] for i in rng.permutation(patients)]


def _photograph(labels: list[str], seed: int, size: int, slices: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 4) and masks (N, size, size, 3), patient by patient."""
    visits = list(enumerate(labels))
    # Processes, because the drawing holds Python's lock. A worker takes seconds to start: too long for a few slices.
    workers = cores() if len(labels) * slices * size**2 > SMALL else 1
    done = in_order(partial(_visit, seed, slices, size), visits, min(workers, MOST_WORKERS))
    pairs = []
    for patient in tqdm(done, total=len(visits), disable=not progress, desc="phantom", unit="patient"):
        pairs += patient
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def _visit(seed: int, slices: int, size: int, patient: tuple[int, str]) -> list[tuple[np.ndarray, np.ndarray]]:
    number, label = patient
    return scanner.examine(label, slices, size, np.random.default_rng([seed, 1, number]))


def _published(labels: list[str], slices: int, rng: np.random.Generator) -> list[dict]:
    """A row an image with its published split: some patients whole, the careless ones in both sets."""
    careless, testing = set(), set()
    for label in CLASSES:  # by class, so that each has patients in both sets
        mine = rng.permutation([i for i, own in enumerate(labels) if own == label])
        torn = round(CARELESS * len(mine))
        careless.update(mine[:torn].tolist())
        testing.update(mine[torn : torn + max(1, round(TEST * (len(mine) - torn)))].tolist())
    rows = []
    for number, label in enumerate(labels):
        odd = rng.integers(slices)
        for s in range(slices):
            split = "test" if number in testing or (number in careless and s == odd) else "train"
            rows.append(faults.row(f"p{number:03d}", s, label, split))
    return rows


def _complete(row: dict, image: np.ndarray) -> dict:
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    height, width = image.shape[:2]
    facts = {"sha256": digest, "file_sha256": digest, "bytes": image.nbytes, "width": width, "height": height}
    return {**row, **facts}


def _write_store(path: Path, images: np.ndarray, masks: np.ndarray, seed: int) -> None:
    # The file's own bytes are promised to be the same: no timestamps, and gzip, because lzf (as HDF5 ships it) starts
    # from an uninitialised table and so may pack the same pixels differently.
    # In memory first, since HDF5 crashes where the disk is full.
    with h5py.File(path, "w", libver="earliest", driver="core", backing_store=False) as file:
        for name, array in (("image", images), ("mask", masks)):
            chunk = (1, *array.shape[1:])
            how = GZIP | CHECKSUM | {"chunks": chunk, "track_times": False}
            file.create_dataset(name, data=array, **how)
        facts = {
            "name": CATALOG["phantom"].name,
            "size": images.shape[1],
            "crop": "none",
            "version": VERSION,
            "seed": seed,
        }
        for key, value in facts.items():
            file.attrs[key] = value
        file.flush()
        content = file.id.get_file_image()
    path.write_bytes(content)
