"""Plants in the phantom what goes wrong in real image collections, and records it row by row.

It plants copies (byte-identical, nearly identical, turned), wrong labels, and an orientation that reveals the class.
Curation has to find them all; only `phantom.py` calls this.
"""

from collections import Counter

import imagehash
import numpy as np
from PIL import Image

from datasets.catalog import CATALOG, CLASSES
from datasets.transforms import turn

GREY = CATALOG["phantom"].grey
TRANSPOSED = {"glioma": 0.88, "meningioma": 0.51, "pituitary": 0.53, "notumor": 0.0}  # as in the 7,023 images
COPIES = {"byte-copy": 0.03, "near-copy": 0.03, "transposed-copy": 0.03}  # per original image
CROSSING = 0.5  # share of the copies that fall into the other split
CONFLICTING = 0.12  # share of the copies under another label than the original
MISLABELLED = 0.01  # share of the originals under a wrong label
NEAR_BITS, NEAR_CORRELATION = 2, 0.993  # of a near-copy to its original; two of them then still agree in 4 bits and .97
# By the number that is drawn: bit 4 transposes, then 2 flips rows and 1 flips columns.
TURNS = (
    "upright",
    "flipped-lr",
    "flipped-ud",
    "rotated-180",
    "transposed",
    "rotated-270",
    "rotated-90",
    "anti-transposed",
)
FAR_BITS, FAR_CORRELATION = 6, 0.96  # slices of a patient never agree in both, or they would pass for copies


def row(patient: str, number: int, label: str, split: str) -> dict:
    """A sound row of the manifest, without the facts of its bytes."""
    return {
        "path": f"{split}/{label}/{patient}_s{number}.png",
        "label": label,
        "published_split": split,
        "patient": patient,
        "true_label": label,
        "duplicate_of": "",
        "transposed": 0,
        "kind": "",
    }


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """64 × 64 grey levels (H, W) → mean-centred unit vector, whose products are correlations."""
    small = np.asarray(Image.fromarray(grey).resize((64, 64), Image.Resampling.BOX), np.float64).ravel()
    small -= small.mean()
    return small / max(float(np.sqrt((small**2).sum())), 1e-9)


def bits_apart(a: np.ndarray, b: np.ndarray) -> int:
    """Bits that differ between the 64-bit pHashes of two grey images (H, W)."""
    return int(imagehash.phash(Image.fromarray(a)) - imagehash.phash(Image.fromarray(b)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of the 64 × 64 thumbnails of two grey images (H, W)."""
    return float((thumbnail(a) * thumbnail(b)).sum())


def passes_for_copy(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two images (H, W, C) look like copies, one of them perhaps mirrored: heads are nearly symmetric."""
    a = a[..., GREY]
    views = [np.ascontiguousarray(turn(b, name)[..., GREY]) for name in TURNS[:2]]
    return any(correlation(a, v) >= FAR_CORRELATION and bits_apart(a, v) <= FAR_BITS for v in views)


def plant(
    images: np.ndarray, masks: np.ndarray, rows: list[dict], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Transpose, mislabel and copy; returns the images, masks and rows with the copies at their end."""
    _transpose(images, masks, rows, rng)
    _mislabel(rows, rng)
    copies = _copies(images, masks, rows, rng)
    return (
        np.concatenate([images, [c[0] for c in copies]]),
        np.concatenate([masks, [c[1] for c in copies]]),
        rows + [c[2] for c in copies],
    )


def _transpose(images: np.ndarray, masks: np.ndarray, rows: list[dict], rng: np.random.Generator) -> None:
    for i, entry in enumerate(rows):
        if rng.random() < TRANSPOSED[entry["true_label"]]:
            images[i], masks[i] = turn(images[i], "transposed").copy(), turn(masks[i], "transposed").copy()
            entry["transposed"] = 1


def _other(label: str, rng: np.random.Generator) -> str:
    return str(rng.choice([c for c in CLASSES if c != label]))


def _mislabel(rows: list[dict], rng: np.random.Generator) -> None:
    for i in rng.choice(len(rows), max(2, round(MISLABELLED * len(rows))), replace=False):
        label = _other(rows[i]["true_label"], rng)
        rows[i]["path"] = rows[i]["path"].replace(f"/{rows[i]['label']}/", f"/{label}/")
        rows[i]["label"] = label


def _copies(
    images: np.ndarray, masks: np.ndarray, rows: list[dict], rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, dict]]:
    """The copies as (image, mask, row), at least four of each kind; some originals are copied twice."""
    counts = {kind: max(4, round(share * len(rows))) for kind, share in COPIES.items()}
    kinds = rng.permutation([kind for kind, count in counts.items() for _ in range(count)])
    chosen = rng.permutation(len(rows))[: len(kinds)]
    chosen[1::8] = chosen[0::8][: len(chosen[1::8])]
    conflicting = rng.permutation(len(kinds)) < max(2, round(CONFLICTING * len(kinds)))
    crossing = rng.permutation(len(kinds)) < round(CROSSING * len(kinds))
    taken = Counter(entry["patient"] for entry in rows)
    copies = []
    for i, kind, conflict, cross in zip(chosen, kinds, conflicting, crossing, strict=True):
        original = rows[i]
        label = _other(original["label"], rng) if conflict else original["label"]
        split = (
            {"train": "test", "test": "train"}[original["published_split"]] if cross else original["published_split"]
        )
        copy = row(original["patient"], taken[original["patient"]], label, split)
        taken[original["patient"]] += 1
        code = int(rng.integers(1, 8)) if kind == "transposed-copy" else 0
        copy["true_label"], copy["duplicate_of"], copy["kind"] = original["true_label"], original["path"], str(kind)
        copy["transposed"] = original["transposed"] ^ (code >> 2)
        image = _degraded(images[i], rng) if kind == "near-copy" else turn(images[i], TURNS[code])
        copies.append((image, turn(masks[i], TURNS[code]), copy))
    return copies


def _degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image saved again with other contrast, fewer grey levels and compression-like noise."""
    strength = 1.0
    while True:
        gain, offset = 1 + strength * rng.uniform(-0.08, 0.08), strength * rng.uniform(-8, 8)
        levels = float(rng.integers(3, 6)) * strength
        new = gain * image.astype(np.float64) + offset + strength * rng.normal(0, 2, image.shape)
        new = (np.rint(new / levels) * levels).clip(0, 255).round().astype(np.uint8)
        old_grey, new_grey = (np.ascontiguousarray(p[..., GREY]) for p in (image, new))
        near = bits_apart(old_grey, new_grey) <= NEAR_BITS and correlation(old_grey, new_grey) >= NEAR_CORRELATION
        if near and not np.array_equal(new, image):
            return new
        strength = max(0.2, 0.8 * strength)
