"""How BraTS is stored: size, time to read a slice, and what 8 or 16 bits lose, measured on patients in `raw/`.

    python benchmarks/volumes.py brats-mini [--patients 3]

Prints a line for each number of bits and compression, then what the whole of BraTS 2020 would take.
"""

import argparse
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from datasets import brats, catalog
from datasets.store import require

COMPRESSIONS = {"none": {}, "lzf": {"compression": "lzf"}} | {
    f"gzip-{level}": {"compression": "gzip", "compression_opts": level} for level in (1, 4)
}


def seconds(work) -> float:
    """Seconds that `work()` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def as_s2(slices: np.ndarray) -> np.ndarray:
    """N×H×W, each slice by its own range to [0, 1]; those without one are left out."""
    slices = slices.astype(np.float64)
    low, high = slices.min((1, 2)), slices.max((1, 2))
    kept = high > low
    return (slices[kept] - low[kept, None, None]) / (high - low)[kept, None, None]


def precision(stored: np.ndarray, finest: np.ndarray) -> tuple[float, float]:
    """Root mean square and largest difference of two stores' slices after S2's scaling, in its range of [0, 1]."""
    differences = []
    for channel in range(stored.shape[-1]):
        with_range = (stored[..., channel].max((1, 2)) > 0) & (finest[..., channel].max((1, 2)) > 0)
        a, b = as_s2(stored[with_range, ..., channel]), as_s2(finest[with_range, ..., channel])
        if len(a) == len(b):
            differences.append((a - b).ravel())
    joined = np.concatenate(differences)
    return float(np.sqrt((joined**2).mean())), float(np.abs(joined).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a set of volumes, brought in by download.py")
    parser.add_argument("--patients", type=int, default=2)
    args = parser.parse_args()
    facts = catalog.get(args.name)
    folders = sorted((require(args.name) / "raw").iterdir())[: args.patients]
    exact = [np.stack([p.image for p in brats.read(facts, folder, 16)]) for folder in folders]
    for bits in (8, 16):
        patients = []
        took = seconds(lambda: patients.extend(brats.read(facts, f, bits) for f in folders)) / len(folders)  # noqa: B023
        pixels = np.concatenate([np.stack([p.image for p in pictures]) for pictures in patients])
        masks = np.concatenate([np.stack([p.mask for p in pictures]) for pictures in patients])
        rms, largest = precision(pixels, np.concatenate(exact))
        print(f"{bits} bits: {took:.1f} s to read a patient; against 16 bits rms {rms:.5f}, largest {largest:.4f}")
        for name, how in COMPRESSIONS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "images.h5"
                with h5py.File(path, "w") as file:
                    file.create_dataset("image", data=pixels, chunks=(1, *pixels.shape[1:]), **how)
                    file.create_dataset("mask", data=masks, chunks=(1, *masks.shape[1:]), **how)
                with h5py.File(path) as file:
                    reading = seconds(lambda: [file["image"][i] for i in range(len(pixels))]) / len(pixels)  # noqa: B023
                share = path.stat().st_size / (pixels.nbytes + masks.nbytes)
                each = path.stat().st_size / len(folders) * len(catalog.get("brats2020").channels) / len(facts.channels)
                print(
                    f"  {name:7s} {share:6.1%} of the plain size, {1000 * reading:.2f} ms a slice; "
                    f"369 patients with four sequences: {369 * each / 2**30:.1f} GiB"
                )


if __name__ == "__main__":
    main()
