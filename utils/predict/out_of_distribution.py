"""Images that no brain model was trained on, by which its warning is measured: files, photographs, noise.

Nothing is chosen on them. Photographs are the two that ship with scikit-learn, cut into tiles.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import binomtest
from sklearn.datasets import load_sample_images

from datasets import catalog
from datasets.catalog import DataError
from datasets.store.preprocess import RawImage, to_uint8
from utils.predict.scans import IMAGE, Scan

NOISE = 60  # images of each kind
TILES = (4, 5)  # of each photograph
SIDE = 256
CHUNK = 64
MOST = 250  # files of each kind


def photographs() -> list[RawImage]:
    """Tiles of photographs, made grey: their colours would give them away."""
    rows, columns = TILES
    tiles = []
    for photograph in load_sample_images().images:
        grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
        for band in np.array_split(grey, rows):
            tiles += np.array_split(band, columns, axis=1)
    return [RawImage(np.ascontiguousarray(tile)) for tile in tiles]


def noise(kind: str, seed: int = 0) -> list[RawImage]:
    """Images of noise: "white" (each pixel by itself) or "cloudy" (its power falls with the square of frequency)."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(NOISE, SIDE, SIDE))
    if kind == "cloudy":
        frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
        frequency[0, 0] = np.inf
        white = np.fft.irfft2(np.fft.rfft2(white) / frequency, s=(SIDE, SIDE))
    return [RawImage(to_uint8(image)) for image in white]


GENERATED = {
    "photographs, made grey": photographs,
    "white noise": lambda: noise("white"),
    "cloudy noise": lambda: noise("cloudy"),
}


def named(pattern: str) -> list[Path]:
    """At most `MOST` image files that a pattern below `catalog.data_root` names, drawn by a fixed seed.

    Raises:
        DataError: no such file, or a pattern that begins at the root.
    """
    if Path(pattern).is_absolute():
        raise DataError(f"{pattern}: a pattern of files is relative to the data folder, {catalog.data_root()}")
    paths = sorted(path for path in catalog.data_root().glob(pattern) if path.is_file())
    if not paths:
        raise DataError(f"{catalog.data_root() / pattern}: no file is named so")
    return sorted(np.random.default_rng(0).permutation(np.array(paths, dtype=object))[:MOST].tolist())


def read(paths: Sequence[Path]) -> Iterator[list[RawImage]]:
    """Image files, a few at a time; those that cannot be read are left out."""
    for start in range(0, len(paths), CHUNK):
        found = []
        for path in paths[start : start + CHUNK]:
            with suppress(DataError):
                found += Scan(path.name, IMAGE, (path,)).read().raws
        if found:
            yield found


def share(found: int, of: int) -> dict[str, float | int]:
    """A share with its 95 % CI (Wilson's), which takes the images to be independent."""
    limits = binomtest(found, of).proportion_ci(method="wilson")
    return {"value": found / of, "low": float(limits.low), "high": float(limits.high), "images": of}
