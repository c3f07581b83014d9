"""Links sets: finds the slice of Cheng's that an image shows, the images that two sets share, and wrong labels.

Also lists the copies that the committed folds and overlaps miss, found by the looser `COPY_CORRELATION`: sharpened or
brightened ones, which differ more as packed images, since each was cropped differently, and images whose heads agree
(`Thumbnails.heads`): such copies as well, whatever their pHashes, and neighbouring slices of one person whom nobody
names. No fold changes. The lists of copies are a lower bound.
"""

import numpy as np
import pandas as pd

from datasets.curation import duplicates
from datasets.curation.duplicates import COPY_CORRELATION, NEAR_CORRELATION, alike_pairs, pairs_alike
from datasets.curation.thumbnails import Thumbnails
from datasets.store import index

REFERENCE = "cheng"  # the one set that names its patients; others are linked to it
COPIES = ["path", "fold", "copy_path", "copy_fold"]
COPIED = f"images with a copy in another fold (correlation {COPY_CORRELATION})"
COPIED_PAIRS = f"pairs of copies in two folds (correlation {COPY_CORRELATION})"
LEFT = f"left in an external test, with a copy in the other set (correlation {COPY_CORRELATION})"


def link(images: Thumbnails, reference: Thumbnails) -> pd.DataFrame:
    """The slice of `reference` that each image shows, by correlation of thumbnails under the 8 transforms.

    Returns a row an image: `reference` (row, or -1 where none reaches `NEAR_CORRELATION`), `correlation` with it, and
    `transform`, what was done to the reference to give the image ("" and NaN where none does).
    """
    found = pairs_alike(images.thumbnails, reference.thumbnails, NEAR_CORRELATION)
    best = found.sort_values("correlation", ascending=False, kind="stable").drop_duplicates("i").set_index("i")
    best = best.reindex(range(len(images))).rename(columns={"j": "reference"})
    return best.assign(reference=best.reference.fillna(-1).astype(int), transform=best["transform"].fillna(""))


def overlap(a: Thumbnails, b: Thumbnails, table_a: pd.DataFrame, table_b: pd.DataFrame) -> pd.DataFrame:
    """Images of two sets that have a relative in the other one, a row an image: `dataset`, `path`, `kind`.

    `kind` is the strictest that holds: "bytes", "pixels", "near", "patient", "alike" (`duplicates.alike_pairs`), or
    "group" for an image that is joined to the other set only through its group.
    `table_a` and `table_b` are the split tables from `curate`. Two images of one set are alike by its own rule, images
    of both sets by either.
    """
    both = pd.concat([a.table, b.table], ignore_index=True)
    patient = pd.concat([table_a.patient, table_b.patient], ignore_index=True)
    of_b = pd.Series(np.arange(len(both)) >= len(a))
    between = [pairs_alike(a.of(of), b.of(of), correlation) for of, correlation in {a.alike, b.alike}]
    similar = [alike_pairs(a), alike_pairs(b) + len(a)]
    similar += [pairs[["i", "j"]] + [0, len(a)] for pairs in between]
    copies = [duplicates.identical_pairs(both[key]) for key in ("sha256", "pixels")]
    for images, others, shift in ((a, None, 0), (b, None, len(a)), (a, b, [0, len(a)])):
        copies.append(duplicates.near_pairs(images, duplicates.GROUPED_CORRELATION, others)[["i", "j"]] + shift)
    similar, copies = pd.concat(similar), pd.concat(copies)

    def in_both(keys: pd.Series) -> pd.Series:
        # identical_pairs names only the first of its kind, which may lie in the same set
        return of_b.groupby(keys).transform("nunique").eq(2)

    def crossing(pairs: pd.DataFrame) -> pd.Series:
        ends = pairs[of_b[pairs.i].to_numpy() != of_b[pairs.j].to_numpy()]
        return pd.Series(range(len(both))).isin([*ends.i, *ends.j])

    groups = duplicates.components(len(both), copies, duplicates.identical_pairs(patient), similar)
    held = {
        "bytes": in_both(both.sha256),
        "pixels": in_both(both.pixels),
        "near": crossing(copies),
        "patient": in_both(patient.where(patient.ne(""))),
        "alike": crossing(similar),
        "group": in_both(pd.Series(groups)),
    }
    kind = np.select([which.to_numpy(bool) for which in held.values()], list(held), "")
    return both[["dataset", "path"]].assign(kind=kind)[kind != ""]


def copy_pairs(images: Thumbnails, table: pd.DataFrame) -> pd.DataFrame:
    """Copies that lie in two folds of a `table` of `curate`, a row a pair with the columns `COPIES`, in its order; by
    their heads only where no patient is known of either, since patients who are named lie in one fold each."""
    unknown = np.flatnonzero(table.patient.eq(""))
    heads = pairs_alike(images.heads[unknown], None, COPY_CORRELATION)[["i", "j"]].map(lambda row: unknown[row])
    pairs = pd.concat([duplicates.near_pairs(images, COPY_CORRELATION)[["i", "j"]], heads])
    pairs = pairs.drop_duplicates().sort_values(["i", "j"], ignore_index=True).astype(int)
    first, second = (table[["path", "fold"]].iloc[pairs[end]].reset_index(drop=True) for end in "ij")
    found = pd.concat([first, second.add_prefix("copy_")], axis=1)
    return found[found.fold != found.copy_fold].reset_index(drop=True)[COPIES]


def copy_facts(copies: pd.DataFrame) -> dict[str, int]:
    """A list of copies in numbers."""
    return {COPIED: pd.concat([copies.path, copies.copy_path]).nunique(), COPIED_PAIRS: len(copies)}


def copies_left(a: Thumbnails, b: Thumbnails, shared: pd.DataFrame) -> dict[str, int]:
    """How many images of each of two sets have a copy in the other one, and yet are not in `shared` (of `overlap`).

    Trained on the one set and tested on the other, they would be test images.
    """
    pairs = duplicates.near_pairs(a, COPY_CORRELATION, b)
    found = pd.concat([of.table[["dataset", "path"]].iloc[pairs[end].unique()] for of, end in ((a, "i"), (b, "j"))])
    found = found.merge(shared[["dataset", "path"]], how="left", indicator=True)
    left = found.dataset[found["_merge"].eq("left_only")].value_counts()
    return {f"{name}: {LEFT}": int(left.get(name, 0)) for name in (a.table.dataset[0], b.table.dataset[0])}


def wrong_labels(table: pd.DataFrame) -> np.ndarray:
    """Rows whose label is not the commonest among their patient's images: nobody has two kinds of tumour here.

    An image without patient is never suspected, and where two labels are equally common, all of a patient's images are.
    """
    known = table[table.patient.ne("")]
    counts = known.groupby(["patient", "label"]).size().rename("n").reset_index()
    most = counts[counts.n == counts.groupby("patient").n.transform("max")]
    most = most[~most.patient.duplicated(keep=False)].set_index("patient").label
    return known.index[known.label != known.patient.map(most)].to_numpy()


def names_patients(name: str) -> bool:
    """Whether the publisher of a data set says who is on its images."""
    return bool(index.read_manifest(name).patient.ne("").all())
