"""Compares preprocessing with plain decoding: `python benchmarks/preprocessing.py [NAME] [--json FILE]`

It times, in turns, `packing.pack` (decode, hash, crop, resize, write images.h5) with plain Pillow (decode to grey,
resize, throw away) over the same files, on the same cores, in the same kind of process pool.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from datasets import catalog
from datasets.catalog import DataError
from datasets.sources import layouts
from datasets.store import packing

SIZE = 256
ALLOWED = 1.3


def plain(raw: Path, paths: Sequence[str]) -> int:
    """The plain way: decode to grey and resize, one image after the other; the pixels are not kept."""
    for path in paths:
        Image.open(raw / path).convert("L").resize((SIZE, SIZE))
    return len(paths)


def run_plain(raw: Path, paths: list[str], workers: int) -> None:
    batches = [paths[i : i + packing.BATCH] for i in range(0, len(paths), packing.BATCH)]
    assert sum(packing.in_order(partial(plain, raw), batches, workers)) == len(paths)


def run_ours(dataset: catalog.Dataset, raw: Path, paths: list[str], workers: int) -> None:
    with tempfile.TemporaryDirectory(dir=raw.parent.parent) as folder:
        store = Path(folder) / "images.h5"
        read = partial(layouts.read, dataset, raw)
        stored, _ = packing.pack(read, paths, store, size=SIZE, workers=workers)
        assert len(stored) == len(paths)


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, rounds: int, workers: int) -> dict:
    """Time both ways `rounds` times in turns, after one of each to warm the page cache; returns times and ratio."""
    dataset, raw = catalog.get(name), catalog.dataset_dir(name) / "raw"
    if not raw.is_dir():
        raise DataError(f"{raw}: no files to measure on. Run: python datasets/download.py {name}")
    paths = [sample.path for sample in layouts.samples(dataset, raw)]
    ours, pillow = partial(run_ours, dataset, raw, paths, workers), partial(run_plain, raw, paths, workers)
    ours(), pillow()
    times = [(seconds(pillow), seconds(ours)) for _ in range(rounds)]
    ratio = statistics.median(b / a for a, b in times)  # of pairs: the load of the machine drifts
    return {
        "dataset": name,
        "images": len(paths),
        "cores": workers,
        "processor": platform.processor() or platform.machine(),
        "pillow_seconds": [round(a, 2) for a, _ in times],
        "ours_seconds": [round(b, 2) for _, b in times],
        "ratio": round(ratio, 3),
        "allowed": ALLOWED,
    }


def main() -> int:
    """Print the comparison; exit code 1 where preprocessing takes more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="brain-tumor-mri", help="a data set of image folders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=packing.cores())
    parser.add_argument("--json", metavar="FILE", help="also write the result here")
    args = parser.parse_args()
    try:
        result = compare(args.name, args.rounds, args.workers)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{result['images']} images of {args.name}, {args.workers} processes, seconds a round:")
    print(f"  Pillow decode and resize     {result['pillow_seconds']}")
    print(f"  ours, hashing and writing in {result['ours_seconds']}")
    print(f"median ratio {result['ratio']} (at most {ALLOWED})")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(result["ratio"] > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
