"""Measures storage of BraTS on patients in `raw/`: size, time to read a slice, and the loss with 8 or 16 bits.

    python benchmarks/volumes.py brats-mini [--patients 6] [--write]

Prints a line for each number of bits and compression, then what the whole of BraTS 2020 would take.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from datasets import catalog
from datasets.catalog import REPO
from datasets.sources import brats
from datasets.store.index import require
from utils.files import write_atomically
from utils.training.environment import git_revision, hardware

COMPRESSIONS = {"none": {}, "lzf": {"compression": "lzf"}} | {
    f"gzip-{level}": {"compression": "gzip", "compression_opts": level} for level in (1, 4)
}


def seconds(work) -> float:
    """Seconds that `work()` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def as_s2(slices: np.ndarray) -> np.ndarray:
    """N×H×W, each slice scaled by its own range to [0, 1]; constant slices are left out."""
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


def stored(pixels: np.ndarray, masks: np.ndarray, compression: dict, sequences: int) -> tuple[float, float, float]:
    """Share of the plain size, seconds to read a slice, and GiB of 369 patients with four sequences.

    `sequences` is how many are in `pixels`, patients times channels; masks count as read, three a patient.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.h5"
        with h5py.File(path, "w") as file:
            for name, array in (("image", pixels), ("mask", masks)):
                file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), **compression)
        with h5py.File(path) as file:
            reading = seconds(lambda: [file["image"][i] for i in range(len(pixels))]) / len(pixels)
        size = path.stat().st_size
    whole = size * 369 * len(catalog.get("brats2020").channels) / sequences
    return size / (pixels.nbytes + masks.nbytes), reading, whole / 2**30


def read_all(facts: catalog.Dataset, folders: list[Path], bits: int, patients: list) -> None:
    """Read every patient of `folders` into `patients`."""
    patients.extend(brats.read(facts, folder.parent, folder.name, bits) for folder in folders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a set of volumes, brought in by download.py")
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="to saved_metrics/benchmarks/volumes.json")
    args = parser.parse_args()
    facts = catalog.get(args.name)
    folders = sorted((require(args.name) / "raw").iterdir())[: args.patients]
    exact = np.concatenate(
        [np.stack([p.image for p in brats.read(facts, folder.parent, folder.name, 16)]) for folder in folders]
    )
    found = {}
    for bits in (8, 16):
        patients = []
        took = seconds(partial(read_all, facts, folders, bits, patients)) / len(folders)
        pixels = np.concatenate([np.stack([s.image for s in slices]) for slices in patients])
        masks = np.concatenate([np.stack([s.mask for s in slices]) for slices in patients])
        rms, largest = precision(pixels, exact)
        found[f"{bits} bits"] = {"seconds a patient": took, "rms against 16 bits": rms, "largest": largest}
        print(f"{bits} bits: {took:.1f} s to read a patient; against 16 bits rms {rms:.5f}, largest {largest:.4f}")
        for name, compression in COMPRESSIONS.items():
            share, reading, whole = stored(pixels, masks, compression, len(folders) * len(facts.channels))
            found[f"{bits} bits"][name] = {"share": share, "ms a slice": 1000 * reading, "GiB of BraTS 2020": whole}
            print(
                f"  {name:7s} {share:6.1%} of the plain size, {1000 * reading:.2f} ms a slice; BraTS: {whole:.1f} GiB"
            )
    if args.write:
        record = {
            "dataset": args.name,
            "patients": len(folders),
            "hardware": hardware(),
            "git": git_revision(),
            **found,
        }
        write_atomically(REPO / "saved_metrics/benchmarks/volumes.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
