"""Links sets: finds the slice of Cheng's that an image shows, the images that two sets share, and wrong labels."""

import numpy as np
import pandas as pd
import torch

from datasets.curation.duplicates import (
    ALIKE,
    NEAR_CORRELATION,
    alike_pairs,
    components,
    duplicate_pairs,
    identical_pairs,
)
from datasets.curation.thumbnails import Thumbnails, join
from datasets.store import index
from datasets.transforms import TRANSFORMS

REFERENCE = "cheng"  # the one set that names its patients; others are linked to it


def link(images: Thumbnails, reference: Thumbnails, correlation: float = NEAR_CORRELATION) -> pd.DataFrame:
    """The slice of `reference` that each image shows, by correlation of thumbnails under the 8 transforms.

    Returns a row an image: `reference` (row, or -1 where none reaches `correlation`), `correlation` of the best
    (linked or not) and `transform`, what was done to the reference to give the image.
    """
    best = np.full(len(images), -1.0, np.float32)
    row = np.full(len(images), -1)
    transform = np.full(len(images), "", object)
    mine = torch.from_numpy(images.turned("upright"))
    for name in TRANSFORMS if len(reference) else ():
        other = torch.from_numpy(reference.turned(name)).T
        for start in range(0, len(images), 1024):  # bounds the memory: 1024 × reference floats at a time
            value, index = (v.numpy() for v in (mine[start : start + 1024] @ other).max(dim=1))
            better = np.flatnonzero(value > best[start : start + 1024])
            best[start + better], row[start + better] = value[better], index[better]
            transform[start + better] = name
    linked = best >= correlation
    return pd.DataFrame(
        {"reference": np.where(linked, row, -1), "correlation": best, "transform": np.where(linked, transform, "")}
    )


def overlap(
    a: Thumbnails,
    b: Thumbnails,
    table_a: pd.DataFrame,
    table_b: pd.DataFrame,
    alike_a: tuple[str, float] = ALIKE,
    alike_b: tuple[str, float] = ALIKE,
) -> pd.DataFrame:
    """Images of two sets that have a relative in the other one, a row an image: `dataset`, `path`, `kind`.

    `kind` is the strictest that holds: "bytes", "pixels", "near", "patient", "alike" (`duplicates.alike_pairs`), or
    "group" for an image that is joined to the other set only through its group.
    `table_a` and `table_b` are the split tables from `curate`; `alike_a` and `alike_b` are `Dataset.alike`: two
    images of one set are alike by its own rule, images of both sets by either.
    """
    both = join(a, b)
    where = np.repeat([0, 1], [len(a), len(b)])
    pairs = duplicate_pairs(both)
    # identical_pairs names only the first of its kind, which may lie in the same set: all of one key belong together
    names = {"bytes": both.table.sha256, "pixels": both.table.pixels}
    names["patient"] = pd.concat([table_a.patient, table_b.patient], ignore_index=True)
    found = []
    for own, (of, correlation) in enumerate((alike_a, alike_b)):
        i, j = alike_pairs(both, correlation, of)
        kept = (where[i] == own) | (where[j] == own)
        found.append((i[kept], j[kept]))
    i, j = (np.concatenate(ends) for ends in zip(*found, strict=True))
    same_patient = identical_pairs([p or f"row {row}" for row, p in enumerate(names["patient"])])
    joined = pd.concat([pairs[["i", "j"]], same_patient, pd.DataFrame({"i": i, "j": j})])
    names["group"] = pd.Series(components(len(both), joined.i.to_numpy(int), joined.j.to_numpy(int)))
    crossing = pairs[where[pairs.i] != where[pairs.j]]
    near, similar = np.zeros(len(both), bool), np.zeros(len(both), bool)
    near[np.concatenate([crossing.i, crossing.j]).astype(int)] = True
    similar[np.concatenate([i[where[i] != where[j]], j[where[i] != where[j]]])] = True
    in_both = {kind: pd.Series(where).groupby(key.to_numpy()).transform("nunique").eq(2) for kind, key in names.items()}
    in_both["patient"] &= names["patient"].ne("")
    seen = {"near": pd.Series(near), "patient": in_both["patient"], "alike": pd.Series(similar)}
    in_both = {"bytes": in_both["bytes"], "pixels": in_both["pixels"]} | seen | in_both
    kind = np.select([held.to_numpy() for held in in_both.values()], list(in_both), "")
    return both.table[["dataset", "path"]].assign(kind=kind)[kind != ""]


def wrong_labels(table: pd.DataFrame) -> np.ndarray:
    """Rows whose label is not the commonest among their patient's images: nobody has two kinds of tumour here.

    Args:
        table: `label` and `patient` of each image; an image without patient is never suspected, and where two
            labels are equally common in a patient, all of his images are.
    """
    known = table[table.patient.ne("")]
    counts = known.groupby(["patient", "label"]).size().rename("n").reset_index()
    most = counts[counts.n == counts.groupby("patient").n.transform("max")]
    most = most[~most.patient.duplicated(keep=False)].set_index("patient").label
    return known.index[known.label != known.patient.map(most)].to_numpy()


def names_patients(name: str) -> bool:
    """Whether the publisher of a data set says who is on its images."""
    return bool(index.read_manifest(name).patient.ne("").all())
