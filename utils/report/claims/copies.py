"""The sentence on copies that lie in different folds; `tables/copies.py` works out the numbers."""

import numpy as np

from datasets.catalog import HEALTHY
from datasets.reading import read_table
from datasets.store import index
from utils.report.claims.classification import BEST_NETWORK, DATASET, NEAREST
from utils.report.claims.common import bullets, not_run
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import BEST_PROBE, find_run, format_ci, shown_size
from utils.report.claims.old.copies import (
    ALL,
    RESULTS,
    WITHOUT_COPIES,
    WITHOUT_GROUPS,
    before_and_after,
    by_group,
    copied,
    over_all_folds,
    shares_of,
    test_images,
)

SHOWN = ("CustomCNN", BEST_PROBE, BEST_NETWORK, NEAREST)


def copies_across_folds(evidence: Evidence, dataset: str = DATASET) -> str:
    """How many images have a copy in another fold, and what the results by patient become without them."""
    pooled = over_all_folds(evidence, dataset)
    if not pooled:
        return not_run(f"all patient folds of `{dataset}`")
    table = read_table(index.SPLITS / f"{dataset}.csv", needs=["path", "label", "group", "fold"])
    found = table[table.path.isin(copied(dataset))]
    if found.empty:
        return f"No image of `{dataset}` is known to have a copy in another fold."
    kind = ", all without a tumour," if set(found.label) == {HEALTHY} else ""
    intro = (
        f"Of {len(table):,} images of `{dataset}` at least {len(found)}{kind} have a copy (turned, sharpened or "
        f"brightened) in another fold, which our rules had missed; {int(found.fold.eq('0').sum())} of them lie in fold "
        "0, the test set of most runs on one fold alone. Without them in the test set, by patient:"
    )
    said = []
    for model in SHOWN:
        size = shown_size(model, evidence.headline)
        record = find_run(evidence.headline, dataset=dataset, model=model, split="patient", fold=None, image_size=size)
        if record and not record["old_folds"]:
            before, after = before_and_after(evidence, record)
            becomes = [
                f"{words} {format_ci(before[r])} % becomes {format_ci(after[r])} %" for r, words in RESULTS.items()
            ]
            said.append(f"{model}: {', '.join(becomes)}")
    cases = [test_images(evidence.predictions(record), dataset) for record in pooled]
    shares = np.array(
        [[[*shares_of(by_group(part)).values()] for part in parts] for parts in cases]
    )  # runs × cases × 2
    copies, groups = (_largest(shares[:, case] - shares[:, ALL]) for case in (WITHOUT_COPIES, WITHOUT_GROUPS))
    return bullets(intro, said) + (
        f"\n\nAmong all {len(pooled)} results over five folds, {copies} at most; without all "
        f"{int(table.group.isin(found.group).sum())} images of the groups in which copies were found, {groups}. The "
        "training sets are as they were. Accuracy changes also because fewer images without a tumour are left."
    )


def _largest(changes: np.ndarray) -> str:
    """The largest change of each of `RESULTS`, in words; `changes`: a row a run."""
    accuracy, recall = 100 * changes[np.abs(changes).argmax(axis=0), range(len(RESULTS))]
    return f"accuracy changes by {accuracy:+.1f} points and {RESULTS['recall']} by {recall:+.1f}"
