"""Lists the copies that the committed folds and overlaps miss, found by the looser `COPY_CORRELATION`; no fold changes.

Sharpened or brightened copies of a slice correlate by less than `GROUPED_CORRELATION` as published, and mostly by far
less as packed images, since each was cropped differently. Copies whose pHashes differ in more than `NEAR_BITS` are not
found: the lists are a lower bound.
"""

import pandas as pd

from datasets.curation.duplicates import COPY_CORRELATION, near_pairs
from datasets.curation.thumbnails import Thumbnails, join

COLUMNS = ["path", "fold", "copy_path", "copy_fold"]
COPIED = f"images with a copy in another fold (correlation {COPY_CORRELATION})"
COPIED_PAIRS = f"pairs of copies in two folds (correlation {COPY_CORRELATION})"
LEFT = f"left in an external test, with a copy in the other set (correlation {COPY_CORRELATION})"


def copy_pairs(images: Thumbnails, table: pd.DataFrame) -> pd.DataFrame:
    """Copies that lie in two folds, a row a pair with `COLUMNS`, in manifest order.

    Args:
        table: of `split_table.curate`, in the order of `images`.
    """
    pairs = near_pairs(images, correlation=COPY_CORRELATION)
    first, second = (table[["path", "fold"]].iloc[pairs[end]].reset_index(drop=True) for end in "ij")
    found = pd.concat([first, second.add_prefix("copy_")], axis=1)
    return found[found.fold != found.copy_fold].reset_index(drop=True)[COLUMNS]


def copy_facts(copies: pd.DataFrame) -> dict[str, int]:
    """A list of copies in numbers."""
    return {COPIED: pd.concat([copies.path, copies.copy_path]).nunique(), COPIED_PAIRS: len(copies)}


def copies_left(a: Thumbnails, b: Thumbnails, shared: pd.DataFrame) -> dict[str, int]:
    """How many images of each of two sets have a copy in the other one, and yet are not in `shared` (`links.overlap`).

    Trained on the one set and tested on the other, they would be test images.
    """
    both = join(a, b)
    pairs = near_pairs(both, correlation=COPY_CORRELATION)
    crossing = pairs[(pairs.i < len(a)) & (pairs.j >= len(a))]
    counts = {}
    for end, images in (("i", a), ("j", b)):
        found, name = both.table.iloc[crossing[end].unique()], images.table.dataset.iloc[0]
        counts[f"{name}: {LEFT}"] = int((~found.path.isin(shared.path[shared.dataset == name])).sum())
    return counts
