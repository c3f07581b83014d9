"""Measures what it takes to read a stored image: bytes on disk, and processor time of one core to unpack and resize it.

    python benchmarks/reading.py [--images 512] [--write]

Measured on the sets that are here, through `ImageDataset` as training reads what does not fit in memory. Time is that
of the processor, medians over rounds, the file being in the system's cache: what the disk adds depends on the disk.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from statistics import median

import cv2
import h5py
import numpy as np
import torch

from datasets.catalog import REPO
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.files import write_atomically
from utils.training.environment import git_revision, hardware, versions

RECORD = REPO / "saved_metrics/benchmarks/reading.json"
# Data set → side of the input in pixels, and how it is read.
READ = {
    "brain-tumor-mri": (128, {}),
    "cheng": (224, {}),
    "chest-xray14": (224, {"target": "findings"}),
    "brats-mini": (240, {"channels": "all", "masks": True}),
}
BATCH = 16


def stored_bytes(data: ImageDataset, masks: bool) -> float:
    """Bytes of an image on disk, with its mask where that is read: the mean over the images of `data`."""
    total = 0
    with h5py.File(data.path) as store:
        for key in ("image", "mask")[: 1 + masks]:
            array = store[key]
            corner = [0] * (array.ndim - 1)
            total += sum(array.id.get_chunk_info_by_coord((int(row), *corner)).size for row in data.rows)
    return total / len(data)


def milliseconds(data: ImageDataset) -> float:
    """Processor time of an image: `data` is read once, in batches."""
    started = time.process_time()
    for first in range(0, len(data), BATCH):
        data.batch(range(first, min(first + BATCH, len(data))))
    return 1000 * (time.process_time() - started) / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="of each set, evenly spaced")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"to {RECORD.relative_to(REPO)}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    found = {}
    for name, (side, how) in READ.items():
        rows = np.unique(np.linspace(0, len(read_manifest(name)) - 1, args.images).astype(int))
        data = ImageDataset(name, rows, image_size=side, in_memory=False, **how)
        milliseconds(data)  # the first round fills the cache
        found[name] = {
            "images": len(data),
            "input": [len(data.channels), side],
            "masks": data.mask_channels,
            "bytes an image on disk": round(stored_bytes(data, bool(data.mask_channels))),
            "ms an image": round(median(milliseconds(data) for _ in range(args.rounds)), 4),
        }
        print(name, found[name], flush=True)
    record = {
        "command": f"python benchmarks/reading.py --images {args.images} --rounds {args.rounds} --write",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "hardware": hardware(),
        "versions": versions(),
        "sets": found,
    }
    if args.write:
        write_atomically(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
