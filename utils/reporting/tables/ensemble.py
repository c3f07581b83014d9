"""What a mean of three unlike networks gains: their probabilities, image by image, from the committed predictions.

The members are one of each kind (fine-tuned, linear probe, from scratch) and count alike: nothing is chosen, neither on
validation nor on test images.
"""

import pandas as pd

from utils.analysis.paired import paired_difference
from utils.evaluation.intervals import mean_interval
from utils.reporting.records import BEST_RECIPE, Evidence
from utils.reporting.tables.common import (
    BEST_PROBE,
    SPLIT_ORDER,
    cell,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    tested,
)

FINE_TUNED = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "seed": 0}
FROM_SCRATCH = {"model": "CustomCNN", "recipe": "s2", "seed": 0}


def ensembles(evidence: Evidence) -> list[dict]:
    """Where all three tested the same images: the records of the `members` (fine-tuned, probe, from scratch), the
    `accuracy` of their mean, and what it `gained` over the fine-tuned one alone."""
    found = []
    every = [r for r in evidence.transfer if FINE_TUNED.items() <= r["run"].items() and not r["old_folds"]]
    for record in sorted(every, key=lambda r: (r["run"]["dataset"], SPLIT_ORDER[r["run"]["split"]], r["id"])):
        run = record["run"]
        same = {key: run[key] for key in ("dataset", "split", "fold", "test_on")}
        others = [find_run(evidence.classifiers, **same, **who) for who in ({"model": BEST_PROBE}, FROM_SCRATCH)]
        if is_pooled_elsewhere(record, every) or not all(others) or any(other["old_folds"] for other in others):
            continue
        tables = [evidence.predictions(r).sort_values("path", ignore_index=True) for r in (record, *others)]
        if any(not table.path.equals(tables[0].path) for table in tables):
            continue
        columns = [name for name in tables[0] if name.startswith("p_")]
        mean = sum(table[columns] for table in tables) / len(tables)
        predicted = mean.idxmax(axis=1).str.removeprefix("p_")
        together = tables[0].assign(predicted=predicted)
        accuracy = mean_interval(together.predicted == together.label, together.group)
        gained = paired_difference(together, tables[0])
        found.append({"members": [record, *others], "accuracy": accuracy, "gained": gained})
    return found


def ensemble_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a data set and split: the mean of the three, each alone, and the difference to the fine-tuned one."""
    rows = []
    for entry in ensembles(evidence):
        fine_tuned, probe, from_scratch = entry["members"]
        rows.append(
            {
                "data set": fine_tuned["run"]["dataset"],
                "split": tested(fine_tuned),
                "mean of three, accuracy %": format_ci(entry["accuracy"]),
                "ResNet50-v2, fine-tuned": cell(fine_tuned),
                "its linear probe": cell(probe),
                "CustomCNN": cell(from_scratch),
                "mean minus fine-tuned, points": format_ci(entry["gained"], sign=True),
            }
        )
    return pd.DataFrame(rows)
