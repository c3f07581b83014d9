"""Times a part of the search for images alike among many: `python benchmarks/thumbnails.py 100000`.

The part is one block of 512 rows beside all others, under one of the 8 transforms, so that a set is measured whose
whole search would take hours. Beside ours faiss looks for the same pairs in its exact index of inner products. Writes
`saved_metrics/benchmarks/thumbnails.json`, from which docs/plans.md derives its numbers.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "speed"))
import parts

from datasets.catalog import REPO
from datasets.curation import duplicates
from datasets.curation.duplicates import BLOCK, close_hashes, pairs_alike
from datasets.transforms import TRANSFORMS
from utils.files import write_atomically
from utils.training.environment import git_revision, hardware

DRAWN = 1000  # thumbnails; all others are mixtures of two, as smooth as these


def mixtures(number: int) -> np.ndarray:
    """`number` thumbnails of unit length."""
    drawn, rng = parts.thumbnails(DRAWN), np.random.default_rng(0)
    out = np.empty((number, *drawn.shape[1:]), np.float32)
    for start in range(0, number, BLOCK):
        i, j = rng.integers(DRAWN, size=(2, len(out[start : start + BLOCK])))
        mixed = drawn[i] + 0.9 * drawn[j]
        out[start : start + BLOCK] = mixed / np.linalg.norm(mixed, axis=(1, 2), keepdims=True)
    return out


def seconds(work: Callable[[], object]) -> float:
    """Processor time, which other work on the machine changes little, of one call."""
    began = time.process_time()
    work()
    return round(time.process_time() - began, 3)


def main(number: int) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    duplicates.TRANSFORMS = {"upright": TRANSFORMS["upright"]}
    small, rng = mixtures(number), np.random.default_rng(1)
    found = {"images": number, "block": BLOCK, "command": f"python benchmarks/thumbnails.py {number}"}
    found["seconds of 1 row"] = seconds(lambda: pairs_alike(small[:1], small, parts.THRESHOLD))
    found["seconds of a block"] = seconds(lambda: pairs_alike(small[:BLOCK], small, parts.THRESHOLD))
    hashes = rng.integers(2**63, size=number, dtype=np.uint64)
    found["seconds of a block of hashes"] = seconds(lambda: close_hashes(hashes[:BLOCK], hashes))
    found["GiB of memory at most"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    sketch = duplicates._sketch(small)
    index = faiss.IndexFlatIP(sketch.shape[1])
    index.add(sketch)
    found["seconds of a block by faiss"] = seconds(lambda: index.range_search(sketch[:BLOCK], parts.THRESHOLD))
    found |= {"hardware": hardware(), "git": git_revision()}
    path = REPO / "saved_metrics/benchmarks/thumbnails.json"
    write_atomically(path, json.dumps(found, indent=1) + "\n")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
