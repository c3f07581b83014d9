"""Links sets: finds the slice of Cheng's that an image shows, the images that two sets share, and wrong labels."""

import numpy as np
import pandas as pd

from datasets.curation.duplicates import (
    ALIKE,
    NEAR_CORRELATION,
    alike_pairs,
    components,
    duplicate_pairs,
    identical_pairs,
)
from datasets.curation.likeness import pairs_alike
from datasets.curation.thumbnails import Thumbnails, join
from datasets.store import index
from datasets.transforms import TRANSFORMS

REFERENCE = "cheng"  # the one set that names its patients; others are linked to it


def link(images: Thumbnails, reference: Thumbnails, correlation: float = NEAR_CORRELATION) -> pd.DataFrame:
    """The slice of `reference` that each image shows, by correlation of thumbnails under the 8 transforms.

    Returns a row an image: `reference` (row, or -1 where none reaches `correlation`), `correlation` with it, and
    `transform`, what was done to the reference to give the image ("" and NaN where none does).
    """
    found = pd.DataFrame(pairs_alike(images.thumbnails, reference.thumbnails, correlation)._asdict())
    best = found.sort_values("correlation", ascending=False, kind="stable").drop_duplicates("i").set_index("i")
    best = best.reindex(range(len(images)))
    return pd.DataFrame(
        {
            "reference": best.j.fillna(-1).astype(int),
            "correlation": best.correlation,
            "transform": best["transform"].map(dict(enumerate(TRANSFORMS))).fillna(""),
        }
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
    i, j = _alike(a, b, alike_a, alike_b)
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


def _alike(
    a: Thumbnails, b: Thumbnails, alike_a: tuple[str, float], alike_b: tuple[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of images that are alike, rows of both sets joined: each set's own by its rule, those of both by either."""
    inside = [alike_pairs(images, correlation, of) for images, (of, correlation) in ((a, alike_a), (b, alike_b))]
    between = [pairs_alike(a.of(of), b.of(of), correlation)[:2] for of, correlation in {alike_a, alike_b}]
    ends = [inside[0], *((i, j + len(a)) for i, j in between), tuple(end + len(a) for end in inside[1])]
    i, j = (np.concatenate(end) for end in zip(*ends, strict=True))
    return i, j


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
