"""Finds duplicates and near-duplicates: images of a set that show the same, as they are or turned.

`thumbnails.look` reads the images; `links.py` compares two sets.
"""

from collections.abc import Sequence

import faiss
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets.curation.likeness import correlations, pairs_alike
from datasets.curation.thumbnails import Thumbnails
from datasets.store.manifest import originals
from datasets.transforms import TRANSFORMS

NEAR_BITS, NEAR_CORRELATION = 4, 0.97
COPY_CORRELATION = 0.93  # of copies that were sharpened or brightened as well, within `NEAR_BITS`
# From here on near-duplicates are joined into a group. The next drawing of folds should take `COPY_CORRELATION`: the
# groups of brain-tumor-mri would be 650 instead of 663, the largest still of 113 images. The committed tables still use
# .97, since every run by patient was trained on their folds; `copies.py` lists what they therefore miss.
GROUPED_CORRELATION = NEAR_CORRELATION
ALIKE_CORRELATION = 0.93  # of packed images; at .91 groups begin to run together
ALIKE = ("packed", ALIKE_CORRELATION)  # `Dataset.alike` of most sets


def identical_pairs(keys: Sequence[str]) -> pd.DataFrame:
    """Rows `i` < `j` whose keys are equal, each row joined to the first of its kind."""
    first = pd.Series(range(len(keys))).groupby(np.asarray(keys, dtype=object)).transform("first").to_numpy(dtype=int)
    j = np.flatnonzero(first != np.arange(len(keys)))
    return pd.DataFrame({"i": first[j], "j": j})


def close_hashes(a: np.ndarray, b: np.ndarray, bits: int = NEAR_BITS) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with at most `bits` bits between the 64-bit hashes a[i] and b[j]; exact, nothing is sampled.

    faiss compares all pairs in compiled code: 4 times as fast as NumPy's bitwise_count on 100,000 hashes.
    """
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(b).view(np.uint8).reshape(-1, 8))
    limits, _, j = index.range_search(np.ascontiguousarray(a).view(np.uint8).reshape(-1, 8), bits + 1)
    return np.repeat(np.arange(len(a)), np.diff(limits.astype(np.int64))), j


def near_pairs(images: Thumbnails, bits: int = NEAR_BITS, correlation: float = NEAR_CORRELATION) -> pd.DataFrame:
    """Pairs that look the same under one of the 8 transforms: pHash within `bits` and correlation of thumbnails.

    Returns a row a pair: `i` < `j`, `transform` (what turns j into i) and `correlation`, the best transform of each.
    """
    found = []
    for t, name in enumerate(TRANSFORMS):
        i, j = close_hashes(images.hashes[:, 0], images.hashes[:, t], bits)
        i, j = i[i < j], j[i < j]
        alike = correlations(images.thumbnails, TRANSFORMS[name](images.thumbnails), i, j)
        keep = alike >= correlation
        found.append(pd.DataFrame({"i": i[keep], "j": j[keep], "transform": name, "correlation": alike[keep]}))
    pairs = pd.concat(found, ignore_index=True).sort_values("correlation", ascending=False, kind="stable")
    return pairs.drop_duplicates(["i", "j"]).sort_values(["i", "j"], ignore_index=True)


def alike_pairs(
    images: Thumbnails, correlation: float = ALIKE_CORRELATION, of: str = "packed"
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs i < j whose packed images correlate under one of the 8 transforms: all are found, none is sampled.

    `of`: "packed", or "whole" for the images as published.
    They need not be copies: neighbouring slices of one person agree so well. Where nobody names the patients, that is
    all there is to keep such slices together.
    """
    small = images.of(of)
    found = pairs_alike(small, None, correlation)
    pairs = np.unique(np.stack([found.i, found.j], 1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def duplicate_pairs(images: Thumbnails) -> pd.DataFrame:
    """All duplicates, a row a pair: `i`, `j`, `kind` ("bytes", "pixels", "near", the strictest that holds)."""
    pairs = [
        identical_pairs(images.table.sha256).assign(kind="bytes", transform="upright"),
        identical_pairs(images.table.pixels).assign(kind="pixels", transform="upright"),
        near_pairs(images, correlation=GROUPED_CORRELATION).assign(kind="near")[["i", "j", "kind", "transform"]],
    ]
    return pd.concat(pairs, ignore_index=True).drop_duplicates(["i", "j"], ignore_index=True)


def components(size: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Number of the connected component of each of `size` nodes when nodes i[k] and j[k] belong together."""
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def s0_cleaning(images: Thumbnails) -> np.ndarray:
    """Rows that S0's rule keeps: one image a pHash, both splits together, class ignored, train before test.

    The pHash is that of the publisher's own bytes where it is known: a copy that was saved again has another.
    """
    order = np.argsort(images.table.published_split.eq("test"), kind="stable")
    hashes = pd.Series(publishers_hashes(images)[order])
    return np.sort(order[~hashes.duplicated().to_numpy()])


def publishers_hashes(images: Thumbnails) -> np.ndarray:
    """pHash of the publisher's own file where `datasets/originals` holds it, else of the file at hand; uint64 N."""
    hashes = images.hashes[:, 0].copy()
    for name, rows in images.table.groupby("dataset").groups.items():
        known = originals(str(name))
        of = [known.get(path, {}).get("phash", "") for path in images.table.path.loc[rows]]
        hashes[rows] = [int(value, 16) if value else own for value, own in zip(of, hashes[rows], strict=True)]
    return hashes


def relations(images: Thumbnails) -> pd.DataFrame:
    """Pairs of duplicates counted by `kind`: within a class, between classes, and between training and test set."""
    pairs, table = duplicate_pairs(images), images.table
    label, part = table.label.to_numpy(), table.published_split.to_numpy()
    flags = pd.DataFrame(
        {
            "kind": pairs.kind,
            "pairs": True,
            "within a class": label[pairs.i] == label[pairs.j],
            "between classes": label[pairs.i] != label[pairs.j],
            "between training and test set": part[pairs.i] != part[pairs.j],
        }
    )
    kinds = pd.CategoricalIndex(["bytes", "pixels", "near"], name="kind")
    return flags.groupby("kind").sum().reindex(kinds, fill_value=0).astype(int)
