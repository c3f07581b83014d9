"""Groups of a set that no committed table knows: images of one patient, copies, and images alike.

`split_table.curate` makes the committed tables, of sets whose likeness was studied; here the limit is found anew.
"""

import numpy as np
import pandas as pd

from datasets.curation.duplicates import (
    ALIKE_CORRELATION,
    NEAR_CORRELATION,
    alike_pairs,
    components,
    duplicate_pairs,
    identical_pairs,
)
from datasets.curation.split_table import group_name
from datasets.curation.thumbnails import Thumbnails
from datasets.splitting import FOLDS

COLUMNS = ["path", "label", "patient", "group", "label_conflict"]
CORRELATIONS = (ALIKE_CORRELATION, 0.95, NEAR_CORRELATION)
MOST = 20_000  # images that are compared all with all in a few minutes; of more, copies alone are joined


def find_groups(images: Thumbnails) -> tuple[pd.DataFrame, str]:
    """The groups of one set, in manifest order, with `COLUMNS`, and a sentence on how images alike were joined.

    A group joins images of one patient, duplicates, near-duplicates and images alike, as in the committed tables, and
    whatever these share. Images alike are joined from the lowest of `CORRELATIONS` on at which no group outgrows a
    fold: brains without a skull, all turned alike, correlate by more than .93 from person to person, and would become
    one group. An image of one grey value, such as a slice above the head, has no relative but its patient's images.
    `label_conflict` is 1 where duplicates carry different labels.
    """
    table = images.table
    shown = np.flatnonzero(images.thumbnails.any(axis=(1, 2)))
    some = images.rows(shown)
    copies = shown[duplicate_pairs(some)[["i", "j"]].to_numpy(dtype=int)].reshape(-1, 2)
    known = table.patient.where(table.patient.ne(""), [f"row {row}" for row in range(len(table))])
    joined = np.concatenate([copies, identical_pairs(known).to_numpy(dtype=int).reshape(-1, 2)])
    member = components(len(table), *joined.T)
    how = f"copies alone were looked for, of {len(table):,} images"
    if len(table) <= MOST:
        largest = max(len(table) / FOLDS, np.bincount(member).max(initial=0))
        member, how = _join_alike(some, shown, joined, member, largest)
    twins = table.label.groupby(components(len(table), *copies.T)).transform("nunique")
    group = table.path.groupby(member).transform("min").map(group_name)
    return table.assign(group=group, label_conflict=(twins > 1).astype(int))[COLUMNS], how


def _join_alike(
    some: Thumbnails, shown: np.ndarray, joined: np.ndarray, before: np.ndarray, largest: float
) -> tuple[np.ndarray, str]:
    """Components when images alike are joined as well, by the first correlation at which none outgrows `largest`."""
    run_together = ""
    for correlation in CORRELATIONS:
        alike = shown[np.stack(alike_pairs(some, correlation), axis=1)].reshape(-1, 2)
        member = components(len(before), *np.concatenate([joined, alike]).T)
        if np.bincount(member).max(initial=0) <= largest:
            return member, f"images alike (correlation of at least {correlation:g}) are joined{run_together}"
        run_together = f"; at {correlation:g} they would run together into a group of {np.bincount(member).max():,}"
    return before, f"only copies are joined{run_together}"
