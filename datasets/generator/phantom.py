"""Makes the phantom, the embedded default data set: brains with tumours, in the form that every other set has.

Patients are split as carelessly as the real sets were, and faults are planted and recorded row by row: copies
(byte-identical, nearly identical, turned), wrong labels, and an orientation that reveals the class.
"""

import errno
import hashlib
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.catalog import CATALOG, CLASSES, DataError
from datasets.generator import scanner
from datasets.store.manifest import write_manifest
from datasets.store.packing import cores, in_memory, in_order
from datasets.transforms import turn

VERSION = 1
GREY = CATALOG["phantom"].grey
CARELESS = 0.35  # share of the patients whose slices were dealt to train and test one by one
TEST = 0.2  # share of the test set among the other patients
PACKED = 3  # bytes that a pixel of an image and its mask takes on disk, at least
SMALL = 300 * 128**2  # pixels that one process draws as fast as several
MOST_WORKERS = 8  # more would start longer than they draw
SMALLEST = 64  # images, in pixels

TRANSPOSED = {"glioma": 0.88, "meningioma": 0.51, "pituitary": 0.53, "notumor": 0.0}  # as in the 7,023 images
COPIES = {"byte-copy": 0.03, "near-copy": 0.03, "transposed-copy": 0.03}  # per original image
CROSSING = 0.5  # share of the copies that fall into the other split
CONFLICTING = 0.12  # share of the copies under another label than the original
MISLABELLED = 0.01  # share of the originals under a wrong label
NEAR_BITS, NEAR_CORRELATION = 2, 0.993  # of a near-copy to its original; two of them then still agree in 4 bits and .97
FAR_BITS, FAR_CORRELATION = 6, 0.96  # slices of a patient never agree in both, or they would pass for copies
# By the number that is drawn: bit 4 transposes, then 2 flips rows and 1 flips columns.
TURNS = ("upright", "flipped-lr", "flipped-ud", "rotated-180")
TURNS += ("transposed", "rotated-270", "rotated-90", "anti-transposed")

Pair = tuple[np.ndarray, np.ndarray]


def generate(dest: Path, *, seed: int = 0, size: int = 128, patients: int = 180, slices: int = 4) -> None:
    """Make the phantom in folder `dest`: `images.h5` and `manifest.csv`, rows in the same order.

    `image` is uint8 N × size × size × 4 (T1, T1c, T2, FLAIR), `mask` uint8 0/1 N × size × size × 3 (NCR, ED, ET);
    N = `patients` · `slices` images and the planted copies among them. The same arguments give the same bytes.
    Raises `DataError` for images too small, and `OSError` before anything is drawn that will not fit on the disk.
    """
    if size < SMALLEST:
        raise DataError(f"phantom: images of {size} pixels are too small; ask for at least {SMALLEST}")
    dest.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(dest).free < patients * slices * size**2 * PACKED:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dest))
    bounds = np.rint(np.arange(len(CLASSES) + 1) / len(CLASSES) * patients).astype(int)
    labels = np.random.default_rng([seed, 0]).permutation(np.repeat(CLASSES, np.diff(bounds))).tolist()
    # Processes, because the drawing holds Python's lock. A worker takes seconds to start: too long for a few slices.
    workers = min(cores(), MOST_WORKERS) if patients * slices * size**2 > SMALL else 1
    done = in_order(partial(_visit, seed, slices, size), list(enumerate(labels)), workers)
    done = tqdm(done, total=patients, disable=None, desc="phantom", unit="patient")
    pairs = [pair for patient in done for pair in patient]
    rows = _published(labels, slices, np.random.default_rng([seed, 2]))
    pairs, rows = _plant(pairs, rows, np.random.default_rng([seed, 3]))
    order = sorted(range(len(rows)), key=lambda i: rows[i]["path"])
    images, masks = (np.stack([pairs[i][part] for i in order]) for part in (0, 1))
    for row, image in zip((rows[i] for i in order), images, strict=True):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        row |= {"sha256": digest, "file_sha256": digest, "bytes": image.nbytes, "width": size, "height": size}
    facts = {"name": "phantom", "size": size, "crop": "none", "version": VERSION, "seed": seed}
    (dest / "images.h5").write_bytes(in_memory({"image": images, "mask": masks}, facts))
    write_manifest(dest / "manifest.csv", [rows[i] for i in order])


def _visit(seed: int, slices: int, size: int, patient: tuple[int, str]) -> list[Pair]:
    """The slices of one patient: image uint8 (size, size, 4) and mask uint8 0/1 (size, size, 3) each.

    Every slice shows the tumour where there is one. Neighbouring slices that pass for copies would be faults that were
    neither planted nor recorded: they are taken again, with more motion.
    """
    number, label = patient
    rng = np.random.default_rng([seed, 1, number])
    visit = scanner.Visit(label, rng)
    pairs: list[Pair] = []
    for height in visit.heights(slices, rng):
        motion, pair = np.array([1.5, 1.5, 0.03]), None
        while pair is None or any(_passes_for_copy(pair[0], other) for other, _ in pairs):
            pair, motion = visit.slice(height, size, rng.normal(0, motion), rng), 1.5 * motion
        pairs.append(pair)
    return pairs


def draw_one(label: str, size: int = 256) -> np.ndarray:
    """One grey slice of a patient with that label, uint8 size × size."""
    return _visit(0, 1, size, (0, label))[0][0][..., GREY]


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
            rows.append(_row(f"p{number:03d}", s, label, split))
    return rows


def _row(patient: str, number: int, label: str, split: str) -> dict:
    """A sound row of the manifest, without the facts of its bytes."""
    known = {"path": f"{split}/{label}/{patient}_s{number}.png", "label": label, "published_split": split}
    return known | {"patient": patient, "true_label": label, "duplicate_of": "", "transposed": 0, "kind": ""}


def _plant(pairs: list[Pair], rows: list[dict], rng: np.random.Generator) -> tuple[list[Pair], list[dict]]:
    """Transpose, mislabel and copy; returns the images with their masks, and the rows, with the copies at their end."""
    pairs = pairs.copy()
    for i, row in enumerate(rows):
        if rng.random() < TRANSPOSED[row["true_label"]]:
            pairs[i] = tuple(turn(part, "transposed") for part in pairs[i])
            row["transposed"] = 1
    for i in rng.choice(len(rows), max(2, round(MISLABELLED * len(rows))), replace=False):
        label = _other(rows[i]["true_label"], rng)
        rows[i]["path"] = rows[i]["path"].replace(f"/{rows[i]['label']}/", f"/{label}/")
        rows[i]["label"] = label
    copies, of_copies = _copies(pairs, rows, rng)
    return pairs + copies, rows + of_copies


def _other(label: str, rng: np.random.Generator) -> str:
    return str(rng.choice([c for c in CLASSES if c != label]))


def _copies(pairs: list[Pair], rows: list[dict], rng: np.random.Generator) -> tuple[list[Pair], list[dict]]:
    """Copies and their rows, at least four of each kind; some originals are copied twice."""
    kinds = rng.permutation(np.repeat(list(COPIES), [max(4, round(share * len(rows))) for share in COPIES.values()]))
    chosen = rng.permutation(len(rows))[: len(kinds)]
    chosen[1::8] = chosen[0::8][: len(chosen[1::8])]
    conflicting = rng.permutation(len(kinds)) < max(2, round(CONFLICTING * len(kinds)))
    crossing = rng.permutation(len(kinds)) < round(CROSSING * len(kinds))
    taken = Counter(row["patient"] for row in rows)
    copies, of_copies = [], []
    for i, kind, conflict, cross in zip(chosen, kinds.tolist(), conflicting, crossing, strict=True):
        original, (image, mask) = rows[i], pairs[i]
        patient, label, split = original["patient"], original["label"], original["published_split"]
        if conflict:
            label = _other(label, rng)
        if cross:
            split = "train" if split == "test" else "test"
        code = int(rng.integers(1, 8)) if kind == "transposed-copy" else 0
        known = {"true_label": original["true_label"], "duplicate_of": original["path"], "kind": kind}
        known["transposed"] = original["transposed"] ^ (code >> 2)
        of_copies.append(_row(patient, taken[patient], label, split) | known)
        taken[patient] += 1
        image = _degraded(image, rng) if kind == "near-copy" else turn(image, TURNS[code])
        copies.append((image, turn(mask, TURNS[code])))
    return copies, of_copies


def _degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image saved again with other contrast, fewer grey levels and compression-like noise."""
    strength = 1.0
    while True:
        gain, offset = 1 + strength * rng.uniform(-0.08, 0.08), strength * rng.uniform(-8, 8)
        levels = float(rng.integers(3, 6)) * strength
        new = gain * image.astype(np.float64) + offset + strength * rng.normal(0, 2, image.shape)
        new = (np.rint(new / levels) * levels).clip(0, 255).round().astype(np.uint8)
        bits, correlation = _likeness(image, new)
        if bits <= NEAR_BITS and correlation >= NEAR_CORRELATION and not np.array_equal(new, image):
            return new
        strength = max(0.2, 0.8 * strength)


def _likeness(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """Bits that differ between the 64-bit pHashes of two images (H, W, C), and the correlation of their thumbnails."""
    shown = [Image.fromarray(np.ascontiguousarray(image[..., GREY])) for image in (a, b)]
    small = [np.asarray(image.resize((64, 64), Image.Resampling.BOX), np.float64).ravel() for image in shown]
    small = [pixels - pixels.mean() for pixels in small]
    small = [pixels / max(float(np.sqrt((pixels**2).sum())), 1e-9) for pixels in small]
    return int(imagehash.phash(shown[0]) - imagehash.phash(shown[1])), float((small[0] * small[1]).sum())


def _passes_for_copy(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two images (H, W, C) look like copies, one of them perhaps mirrored: heads are nearly symmetric."""
    alike = (_likeness(a, turn(b, name)) for name in TURNS[:2])
    return any(bits <= FAR_BITS and correlation >= FAR_CORRELATION for bits, correlation in alike)
