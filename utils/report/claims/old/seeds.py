"""The same training from other seeds: how far an accuracy moves that no image and no patient moves."""

import statistics
from itertools import groupby

import pandas as pd

from utils.report.claims.old import Evidence
from utils.report.claims.old.common import WEIGHTS, format_ci, tested

FEWEST = 3


def by_seed(evidence: Evidence) -> list[list[dict]]:
    """Classifiers that differ in the seed alone, at least `FEWEST` of each, by seed; the multi-task networks
    of chapter 4 have a table of their own."""
    runs = sorted(evidence.classifiers + evidence.transfer + evidence.localisation, key=_all_but_seed)
    found = [
        sorted(group, key=lambda record: record["run"]["seed"])
        for _, group in groupby((record for record in runs if record["recipe"]), key=_all_but_seed)
    ]
    return [group for group in found if len(group) >= FEWEST]


def several_seeds(evidence: Evidence) -> pd.DataFrame:
    """A row a training: accuracy by seed, their mean and range, and the interval of the first over patients."""
    rows = []
    for records in by_seed(evidence):
        run, values = records[0]["run"], [100 * r["metrics"]["accuracy"]["value"] for r in records]
        rows.append(
            {
                "data set": run["dataset"],
                "split": tested(records[0]),
                "model": run["model"],
                "recipe": f"{run['recipe']}, {WEIGHTS[bool(run['pretrained'])]}",
                "pixels": run["image_size"],
                "seeds": len(records),
                "accuracy % by seed": ", ".join(f"{value:.1f}" for value in values),
                "mean": f"{statistics.mean(values):.1f}",
                "range, points": f"{max(values) - min(values):.1f}",
                "first seed (95 % CI)": format_ci(records[0]["metrics"]["accuracy"]),
            }
        )
    return pd.DataFrame(rows)


def _all_but_seed(record: dict) -> tuple[str, ...]:
    """What a run is, its recipe's values and the images it was split by, whatever its seed."""
    run = {name: value for name, value in record["run"].items() if name != "seed"}
    return (*(f"{name}={run[name]}" for name in sorted(run)), str(record["recipe"]), str(record.get("old_folds")))
