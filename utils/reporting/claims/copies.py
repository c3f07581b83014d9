"""What becomes of the results by patient without the test images that have a copy in another fold.

`datasets/curation/copies.py` makes the list of these images. The results follow from the committed predictions;
nothing is trained.
"""

import numpy as np
import pandas as pd

from datasets.catalog import HEALTHY
from datasets.reading import read_table
from datasets.store import index
from utils.evaluation.intervals import grouped_bootstrap_ci
from utils.reporting.claims.classification import BEST_NETWORK, DATASET, NEAREST
from utils.reporting.claims.common import bullets, not_run
from utils.reporting.records import Evidence
from utils.reporting.tables.common import BEST_PROBE, WEIGHTS, find_run, format_ci, shown_size

SHOWN = ("CustomCNN", BEST_PROBE, BEST_NETWORK, NEAREST)
RESULTS = {"accuracy": "accuracy", "recall": f"recall of `{HEALTHY}`"}
ALL, WITHOUT_COPIES, WITHOUT_GROUPS = range(3)  # which test images, see `_cases`


def copies_across_folds(evidence: Evidence, dataset: str = DATASET) -> str:
    """How many images have a copy in another fold, and what the results by patient become without them."""
    pooled = _pooled(evidence, dataset)
    if not pooled:
        return not_run(f"all patient folds of `{dataset}`")
    table = read_table(index.SPLITS / f"{dataset}.csv", needs=["path", "label", "group", "fold"])
    found = table[table.path.isin(_copied(dataset))]
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
            before, after = _before_and_after(evidence, record)
            becomes = [
                f"{words} {format_ci(before[r])} % becomes {format_ci(after[r])} %" for r, words in RESULTS.items()
            ]
            said.append(f"{model}: {', '.join(becomes)}")
    cases = [_cases(evidence.predictions(record), dataset) for record in pooled]
    shares = np.array([[[*_shares(_counts(part)).values()] for part in parts] for parts in cases])  # runs × cases × 2
    copies, groups = (_largest(shares[:, case] - shares[:, ALL]) for case in (WITHOUT_COPIES, WITHOUT_GROUPS))
    return bullets(intro, said) + (
        f"\n\nAmong all {len(pooled)} results over five folds, {copies} at most; without all "
        f"{int(table.group.isin(found.group).sum())} images of the groups in which copies were found, {groups}. The "
        "training sets are as they were. Accuracy changes also because fewer images without a tumour are left."
    )


def results_without_copies(evidence: Evidence, dataset: str = DATASET) -> pd.DataFrame:
    """A row a result over all patient folds: accuracy and recall of the images without a tumour, on all test images
    and without those that have a copy in another fold."""
    rows = []
    for record in _pooled(evidence, dataset):
        run, (before, after) = record["run"], _before_and_after(evidence, record)
        recipe = f"{run['recipe']}, {WEIGHTS[bool(run['pretrained'])]}" if record["recipe"] else "baseline"
        row = {"model": run["model"], "recipe": recipe, "pixels": run["image_size"]}
        for result, words in RESULTS.items():
            row |= {f"{words} %": format_ci(before[result]), f"{words}, without copies %": format_ci(after[result])}
        rows.append(row)
    return pd.DataFrame(rows)


def _pooled(evidence: Evidence, dataset: str) -> list[dict]:
    """The results over all present patient folds, the most accurate first; without the commonest class as the answer,
    whose accuracy says no more than how common it is."""
    every = evidence.classifiers + evidence.transfer + evidence.multitask + evidence.localisation
    wanted = {"dataset": dataset, "split": "patient", "fold": None, "target": "label"}
    found = [r for r in every if wanted.items() <= ({"target": "label"} | r["run"]).items() and not r["old_folds"]]
    found = [r for r in found if r["run"]["model"] != "majority"]
    return sorted(found, key=lambda r: -r["metrics"]["accuracy"]["value"])


def _copied(dataset: str) -> set[str]:
    """Paths of the images that have a copy in another fold."""
    pairs = read_table(index.SPLITS / "copies" / f"{dataset}.csv", needs=["path", "copy_path"])
    return {*pairs.path, *pairs.copy_path}


def _cases(predictions: pd.DataFrame, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The test images: all, those without a copy in another fold, and those in whose group no image has one."""
    copied = predictions.path.isin(_copied(dataset))
    return predictions, predictions[~copied], predictions[~predictions.group.isin(predictions.group[copied])]


def _before_and_after(evidence: Evidence, record: dict) -> tuple[dict, dict]:
    """`RESULTS` of a run with their intervals, on all test images and without those that have a copy elsewhere."""
    before = {"accuracy": record["metrics"]["accuracy"], "recall": record["per_class"][HEALTHY]["recall"]}
    cases = _cases(evidence.predictions(record), record["run"]["dataset"])
    return before, intervals(cases[WITHOUT_COPIES])


def _counts(predictions: pd.DataFrame) -> np.ndarray:
    """A row a group: images, those answered rightly, images without a tumour, and those answered rightly."""
    right, healthy = predictions.label.eq(predictions.predicted), predictions.label.eq(HEALTHY)
    counted = pd.DataFrame({"images": 1, "right": right, "healthy": healthy, "found": right & healthy}, dtype=int)
    return counted.groupby(predictions.group).sum().to_numpy()


def _shares(counts: np.ndarray) -> dict[str, float]:
    """`RESULTS` of some groups, drawn once or several times."""
    images, right, healthy, found = counts.sum(axis=0)
    return {"accuracy": right / images, "recall": found / healthy if healthy else np.nan}


def intervals(predictions: pd.DataFrame) -> dict[str, dict]:
    """`RESULTS` with 95 % intervals over groups, {value, low, high}, as `classification.evaluate` gives them."""
    counts = _counts(predictions)
    trials = {"accuracy": len(counts), "recall": int((counts[:, 2] > 0).sum())}  # groups in which each is counted
    return grouped_bootstrap_ci(range(len(counts)), lambda rows: _shares(counts[rows]), trials=trials)


def _largest(changes: np.ndarray) -> str:
    """The largest change of each of `RESULTS`, in words; `changes`: a row a run."""
    accuracy, recall = 100 * changes[np.abs(changes).argmax(axis=0), range(len(RESULTS))]
    return f"accuracy changes by {accuracy:+.1f} points and {RESULTS['recall']} by {recall:+.1f}"
