"""Times the search for duplicates and counts what it misses: `python benchmarks/curation.py [NAME...] [--json FILE]`

It times reading, hashing and comparing whole data sets under the 8 transforms; all pairs within 4 bits of 100,000
synthetic hashes with faiss and with NumPy, and the memory it takes; and, where `imagededup` is installed (pip install
imagededup), its pHash on the same files: how long it takes, and whether a pair that it finds truly alike is missed.
"""

import argparse
import json
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from datasets import catalog
from datasets.catalog import DataError
from datasets.curation.duplicates import NEAR_BITS, NEAR_CORRELATION, close_hashes, components, duplicate_pairs
from datasets.curation.thumbnails import Thumbnails, look
from datasets.store.packing import cores

HASHES = 100_000


def seconds(work, *arguments) -> tuple[float, object]:
    """Time of `work(*arguments)`, and what it returned."""
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def with_numpy(hashes: np.ndarray) -> int:
    """Pairs within `NEAR_BITS` by NumPy alone, 256 rows at a time."""
    return sum(
        int((np.bitwise_count(hashes[i : i + 256, None] ^ hashes[None]) <= NEAR_BITS).sum())
        for i in range(0, len(hashes), 256)
    )


def synthetic() -> dict[str, float]:
    """100,000 random hashes, one in ten copied with up to 4 bits changed, against each other."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, HASHES, dtype=np.uint64)
    changes = np.uint64(1) << rng.integers(0, 64, (HASHES // 10, NEAR_BITS), dtype=np.uint64)
    hashes[: HASHES // 10] = hashes[-HASHES // 10 :] ^ np.bitwise_or.reduce(changes, axis=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took, (i, _) = seconds(close_hashes, hashes, hashes)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    plain, pairs = seconds(with_numpy, hashes)
    assert len(i) == pairs, f"faiss found {len(i)} pairs, NumPy {pairs}"
    return {"faiss s": took, "numpy s": plain, "pairs": pairs, "memory MiB": grown}


def with_imagededup(images: Thumbnails, together: np.ndarray) -> dict[str, float]:
    """imagededup's pHash within the same distance on the same files, on as many processes as we use cores."""
    from imagededup.methods import PHash

    table = images.table
    files = [catalog.dataset_dir(n) / "raw" / path for n, path in zip(table.dataset, table.path, strict=True)]
    with tempfile.TemporaryDirectory() as folder:  # it takes a folder: links to the files, named by their row
        for row, file in enumerate(files):
            (Path(folder) / f"{row}{file.suffix}").symlink_to(file)
        method = PHash(verbose=False)
        hashing, encodings = seconds(lambda: method.encode_images(folder, num_enc_workers=cores()))
        search = {"encoding_map": encodings, "max_distance_threshold": NEAR_BITS, "num_dist_workers": cores()}
        comparing, found = seconds(lambda: method.find_duplicates(**search))
    theirs = {tuple(sorted((int(Path(a).stem), int(Path(b).stem)))) for a, twins in found.items() for b in twins}
    i, j = np.array(sorted(theirs)).T
    upright = images.thumbnails.reshape(len(images), -1)
    alike = np.einsum("nd,nd->n", upright[i], upright[j]) >= NEAR_CORRELATION
    return {
        "hashing s": hashing,
        "comparing s": comparing,
        "pairs": len(theirs),
        "truly alike": int(alike.sum()),
        "of them missed by us": int((alike & (together[i] != together[j])).sum()),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["brain-tumor-mri", "sartaj"], metavar="NAME", help="data sets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    args = parser.parse_args()
    out = {"cpu": platform.processor() or platform.machine(), "cores": cores(), "synthetic": synthetic()}
    try:
        reading, images = seconds(look, *args.names)
        comparing, pairs = seconds(duplicate_pairs, images)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    out["ours"] = {"images": len(images), "reading and hashing s": reading, "comparing s": comparing}
    out["ours"]["pairs"] = len(pairs)
    try:
        # Our table joins identical images to the first of their kind: what belongs together says the component.
        together = components(len(images), pairs)
        out["imagededup"] = with_imagededup(images, together)
    except ImportError:
        print("imagededup is not installed: pip install imagededup", file=sys.stderr)
    text = json.dumps(out, indent=1, default=lambda number: round(float(number), 3))
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
