"""What HDF5's checksum of each chunk costs.  `python benchmarks/checksums.py [NAME] [--images 3000] [--rounds 5]`

Writes the packed images of a set anew as `packing.py` does, with the checksum and without, in turns, and reads them in
random order, one at a time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from datasets.catalog import DataError
from datasets.store.index import require
from datasets.store.packing import BATCH, CHECKSUM, COMPRESSION


def measure(path: Path, images: np.ndarray, how: dict) -> tuple[float, float]:
    """Milliseconds an image, written and read."""
    started = time.perf_counter()
    with h5py.File(path, "w") as file:
        kind = COMPRESSION["image"] | how
        store = file.create_dataset("image", images.shape, images.dtype, chunks=(1, *images.shape[1:]), **kind)
        for start in range(0, len(images), BATCH):
            store[start : start + BATCH] = images[start : start + BATCH]
    written = time.perf_counter()
    with h5py.File(path) as file:
        for row in np.random.default_rng(0).permutation(len(images)):
            file["image"][row]
    return tuple(1000 * seconds / len(images) for seconds in (written - started, time.perf_counter() - written))


def main() -> int:
    """Print medians over the rounds; exit code 1 where the set is not here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="brain-tumor-mri", help="a data set that is here")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    try:
        with h5py.File(require(args.name) / "images.h5") as file:
            images = file["image"][: args.images]
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for kind, how in (("without", {}), ("with", CHECKSUM)):
                found[kind].append(measure(Path(folder) / "images.h5", images, how))
    print(f"{len(images)} images of {images.shape[1:]}, milliseconds an image, median of {args.rounds} rounds:")
    for kind, times in found.items():
        write, read = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"  {kind:7} checksum: written in {write:.3f}, read in {read:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
