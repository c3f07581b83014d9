"""Finds images of a set that show the same, as they are or turned: duplicates, near-duplicates and images alike.

Images alike are found among all pairs under the 8 flips and rotations: exact, at a seventh of the arithmetic.
A thumbnail is smooth, so that its low cosine frequencies hold nearly all of it. For unit vectors x = (p, q) and
y = (r, s), divided into low and high frequencies, Cauchy and Schwarz give x·y ≤ p·r + |q|·|s|. Only pairs whose bound
reaches the threshold are compared pixel by pixel; none that would reach it is passed over.

`thumbnails.look` reads the images; `links.py` compares two sets. Pairs are data frames, `i` and `j` being rows.
"""

from collections.abc import Sequence

import faiss
import numpy as np
import pandas as pd
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets.curation.thumbnails import Thumbnails
from datasets.store.manifest import originals
from datasets.transforms import TRANSFORMS

NEAR_BITS, NEAR_CORRELATION = 4, 0.97
COPY_CORRELATION = 0.93  # of copies that were sharpened or brightened as well, within `NEAR_BITS`
# From here on near-duplicates are joined into a group. The next drawing of folds should take `COPY_CORRELATION`: the
# groups of brain-tumor-mri would be 650 instead of 663, the largest still of 113 images. The committed tables still use
# .97, since every run by patient was trained on their folds; `links.copy_pairs` lists what they therefore miss.
GROUPED_CORRELATION = NEAR_CORRELATION
LOW = 3 / 8  # of the frequencies along each axis; with a quarter so many pairs are left that it takes 4 times as long
BLOCK = 512  # rows that are compared with all at a time
CHUNK = 1024  # pairs that are compared pixel by pixel at a time: bounds the memory, however many pairs are alike
ROUNDING = 1e-5  # by which a bound of float32 may be too low


def pairs_alike(a: np.ndarray, b: np.ndarray | None, correlation: float) -> pd.DataFrame:
    """All pairs whose thumbnails correlate by at least `correlation` under one of the 8 transforms of the second.

    Args:
        a, b: float32 N×S×S and M×S×S of unit length (or 0); without `b`, pairs i < j of `a`.

    Returns a row for every pair and transform under which it correlates, transform by transform: `i` and `j`,
    `transform` (name of what turns j into i), `correlation`. Time grows with N·M: docs/performance.md says how long
    it takes.
    """
    within, b = b is None, a if b is None else b
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, object), np.zeros(0, np.float32))]
    ours = _sketch(a)
    for name, turn in TRANSFORMS.items():
        turned = turn(b)
        theirs = _sketch(turned)
        for start in range(0, len(a), BLOCK):
            first = start if within else 0
            bound = ours[start : start + BLOCK] @ theirs[first:].T
            i, j = np.divmod(np.flatnonzero(bound.ravel() >= correlation - ROUNDING), bound.shape[1])
            i, j = i + start, j + first
            i, j = (i[i < j], j[i < j]) if within else (i, j)
            value = correlations(a, turned, i, j)
            kept = value >= correlation
            found.append((i[kept], j[kept], np.full(kept.sum(), name, object), value[kept]))
    columns = map(np.concatenate, zip(*found, strict=True))
    return pd.DataFrame(dict(zip(("i", "j", "transform", "correlation"), columns, strict=True)))


def correlations(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Correlation of a[i[k]] and b[j[k]] for every k, float32; a and b are float32 N×S×S and M×S×S of unit length."""
    out = np.empty(len(i), np.float32)
    for start in range(0, len(i), CHUNK):
        part = slice(start, start + CHUNK)
        pair = (x[rows[part]].reshape(len(rows[part]), -1) for x, rows in ((a, i), (b, j)))
        out[part] = np.einsum("nd,nd->n", *pair)
    return out


def _sketch(thumbnails: np.ndarray) -> np.ndarray:
    """Low frequencies of thumbnails N×S×S and the length of what they leave out, N×((`LOW`·S)² + 1)."""
    side = thumbnails.shape[-1]
    rows = dct(np.eye(side), axis=0, norm="ortho")[: int(LOW * side)].astype(np.float32)
    sketches = np.empty((len(thumbnails), len(rows) ** 2 + 1), np.float32)
    for start in range(0, len(thumbnails), BLOCK):  # a turned view is copied, a part at a time
        part = np.ascontiguousarray(thumbnails[start : start + BLOCK])
        low = (rows @ part @ rows.T).reshape(len(part), -1)
        left = np.einsum("nij,nij->n", part, part) - np.einsum("nd,nd->n", low, low)
        sketches[start : start + BLOCK] = np.column_stack([low, np.sqrt(left.clip(0))])
    return sketches


def alike_pairs(images: Thumbnails, alike: tuple[str, float] | None = None) -> pd.DataFrame:
    """All pairs i < j that are `alike` under one of the 8 transforms, by the set's own rule: copies, and neighbouring
    slices of one person, which nothing else keeps together where nobody names the patients."""
    of, correlation = alike = alike or images.alike
    if alike not in images.found:
        found = pairs_alike(images.of(of), None, correlation)[["i", "j"]]
        images.found[alike] = found.drop_duplicates().sort_values(["i", "j"], ignore_index=True)
    return images.found[alike]


def identical_pairs(keys: Sequence[str]) -> pd.DataFrame:
    """Rows `i` < `j` whose keys are equal, each row joined to the first of its kind; "" is like no other."""
    keys, rows = pd.Series(keys, dtype=object).reset_index(drop=True), pd.Series(range(len(keys)))
    pairs = pd.DataFrame({"i": rows.groupby(keys.where(keys.ne(""))).transform("first"), "j": rows}).dropna()
    return pairs[pairs.i < pairs.j].astype(int).reset_index(drop=True)


def close_hashes(a: np.ndarray, b: np.ndarray, bits: int = NEAR_BITS) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with at most `bits` bits between the 64-bit hashes a[i] and b[j]; exact. faiss is 4 times as fast as
    NumPy's bitwise_count on 100,000 hashes."""
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(b).view(np.uint8).reshape(-1, 8))
    limits, _, j = index.range_search(np.ascontiguousarray(a).view(np.uint8).reshape(-1, 8), bits + 1)
    return np.repeat(np.arange(len(a)), np.diff(limits.astype(np.int64))), j


def near_pairs(
    images: Thumbnails, correlation: float = NEAR_CORRELATION, others: Thumbnails | None = None
) -> pd.DataFrame:
    """Pairs that look the same under one of the 8 transforms: pHash within `NEAR_BITS` and correlation of thumbnails.

    Returns a row a pair: `i` < `j`, or `j` of the `others`, `transform` (what turns j into i) and `correlation`, the
    best transform of each.
    """
    found, second = [], images if others is None else others
    for t, name in enumerate(TRANSFORMS):
        i, j = close_hashes(images.hashes[:, 0], second.hashes[:, t])
        i, j = (i[i < j], j[i < j]) if others is None else (i, j)
        alike = correlations(images.thumbnails, TRANSFORMS[name](second.thumbnails), i, j)
        found.append(pd.DataFrame({"i": i, "j": j, "transform": name, "correlation": alike})[alike >= correlation])
    pairs = pd.concat(found, ignore_index=True).sort_values("correlation", ascending=False, kind="stable")
    return pairs.drop_duplicates(["i", "j"]).sort_values(["i", "j"], ignore_index=True)


def duplicate_pairs(images: Thumbnails) -> pd.DataFrame:
    """All duplicates, a row a pair: `i`, `j`, `kind` ("bytes", "pixels", "near", the strictest that holds)."""
    pairs = [
        identical_pairs(images.table.sha256).assign(kind="bytes", transform="upright"),
        identical_pairs(images.table.pixels).assign(kind="pixels", transform="upright"),
        near_pairs(images, GROUPED_CORRELATION).assign(kind="near")[["i", "j", "kind", "transform"]],
    ]
    return pd.concat(pairs, ignore_index=True).drop_duplicates(["i", "j"], ignore_index=True)


def components(size: int, *pairs: pd.DataFrame) -> np.ndarray:
    """Number of the connected component of each of `size` rows when rows `i` and `j` of all pairs belong together."""
    i, j = pd.concat([p[["i", "j"]] for p in pairs]).to_numpy(dtype=int).T
    return connected_components(coo_array((np.ones(len(i), bool), (i, j)), shape=(size, size)), directed=False)[1]


def s0_cleaning(images: Thumbnails) -> np.ndarray:
    """Rows that S0's rule keeps: one image a pHash, both splits together, class ignored, train before test. The pHash
    is that of the publisher's own bytes (`datasets/originals`) where known: a copy that was saved again has another."""
    order = np.argsort(images.table.published_split.eq("test"), kind="stable")
    hashes = images.hashes[:, 0].copy()
    for name, rows in images.table.groupby("dataset").path:
        known = originals(str(name))
        for row, path in rows.items():
            if phash := known.get(path, {}).get("phash"):
                hashes[row] = int(phash, 16)
    return np.sort(order[~pd.Series(hashes[order]).duplicated().to_numpy()])


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
