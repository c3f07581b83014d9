"""Results by patient on all test images, and without those that have a copy in another fold.

`datasets/curation/copies.py` makes the list of these images. The results follow from the committed predictions;
nothing is trained.
"""

import numpy as np
import pandas as pd

from datasets.catalog import HEALTHY
from datasets.reading import read_table
from datasets.splitting import copies_file
from datasets.store import index
from utils.evaluation.intervals import grouped_bootstrap_ci
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import WEIGHTS, format_ci

DATASET = "brain-tumor-mri"
RESULTS = {"accuracy": "accuracy", "recall": f"recall of `{HEALTHY}`"}
ALL, WITHOUT_COPIES, WITHOUT_GROUPS = range(3)  # which test images, see `test_images`


def results_without_copies(evidence: Evidence, dataset: str = DATASET) -> pd.DataFrame:
    """A row a result over all patient folds: accuracy and recall of the images without a tumour, on all test images
    and without those that have a copy in another fold."""
    rows = []
    for record in over_all_folds(evidence, dataset):
        run, (before, after) = record["run"], before_and_after(evidence, record)
        recipe = f"{run['recipe']}, {WEIGHTS[bool(run['pretrained'])]}" if record["recipe"] else "baseline"
        row = {"model": run["model"], "recipe": recipe, "pixels": run["image_size"]}
        for result, words in RESULTS.items():
            row |= {f"{words} %": format_ci(before[result]), f"{words}, without copies %": format_ci(after[result])}
        rows.append(row)
    return pd.DataFrame(rows)


def over_all_folds(evidence: Evidence, dataset: str) -> list[dict]:
    """The results over all present patient folds, the most accurate first; without the commonest class as the answer,
    whose accuracy says no more than how common it is."""
    every = evidence.classifiers + evidence.transfer + evidence.multitask + evidence.localisation
    wanted = {"dataset": dataset, "split": "patient", "fold": None, "target": "label"}
    found = [r for r in every if wanted.items() <= ({"target": "label"} | r["run"]).items() and not r["old_folds"]]
    found = [r for r in found if r["run"]["model"] != "majority"]
    return sorted(found, key=lambda r: -r["metrics"]["accuracy"]["value"])


def copied(dataset: str) -> set[str]:
    """Paths of the images that have a copy in another fold; without a table of them there is none."""
    listed = index.SPLITS / copies_file(dataset)
    if not listed.is_file():
        return set()
    pairs = read_table(listed, needs=["path", "copy_path"])
    return {*pairs.path, *pairs.copy_path}


def test_images(predictions: pd.DataFrame, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The test images: all, those without a copy in another fold, and those in whose group no image has one."""
    twice = predictions.path.isin(copied(dataset))
    return predictions, predictions[~twice], predictions[~predictions.group.isin(predictions.group[twice])]


def before_and_after(evidence: Evidence, record: dict) -> tuple[dict, dict]:
    """`RESULTS` of a run with their intervals, on all test images and without those that have a copy elsewhere."""
    before = {"accuracy": record["metrics"]["accuracy"], "recall": record["per_class"][HEALTHY]["recall"]}
    cases = test_images(evidence.predictions(record), record["run"]["dataset"])
    return before, intervals(cases[WITHOUT_COPIES])


def by_group(predictions: pd.DataFrame) -> np.ndarray:
    """A row a group: images, those answered rightly, images without a tumour, and those answered rightly."""
    right, healthy = predictions.label.eq(predictions.predicted), predictions.label.eq(HEALTHY)
    counted = pd.DataFrame({"images": 1, "right": right, "healthy": healthy, "found": right & healthy}, dtype=int)
    return counted.groupby(predictions.group).sum().to_numpy()


def shares_of(counts: np.ndarray) -> dict[str, float]:
    """`RESULTS` of some groups, drawn once or several times."""
    images, right, healthy, found = counts.sum(axis=0)
    return {"accuracy": right / images, "recall": found / healthy if healthy else np.nan}


def intervals(predictions: pd.DataFrame) -> dict[str, dict]:
    """`RESULTS` with 95 % intervals over groups, {value, low, high}, as `classification.evaluate` gives them."""
    counts = by_group(predictions)
    trials = {"accuracy": len(counts), "recall": int((counts[:, 2] > 0).sum())}  # groups in which each is counted
    return grouped_bootstrap_ci(range(len(counts)), lambda rows: shares_of(counts[rows]), trials=trials)
