"""Measures what each part of a method contributes, from runs of one budget and the same seeds that differ in one thing.

All of them tested the same images, so two methods are compared image by image; groups are resampled.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from datasets.catalog import DataError
from utils.evaluation.intervals import mean_interval
from utils.recipes import RECIPES

REFERENCE = "s0"


def one_fold(record: dict) -> bool:
    """Whether a run was tested on the patients of one fold."""
    return record["run"]["split"] == "patient" and record["run"]["fold"] is not None


def budgets(
    records: Sequence[dict], reference: str = REFERENCE, which: Callable[[dict], bool] = one_fold
) -> list[dict[str, dict[int, dict]]]:
    """Sets of runs that can be compared: recipe → seed → record, `reference` first, all recipes with the same seeds.

    They share what they were trained and tested on (the very same folds), size, width, initial weights and epochs, and
    `reference` is among them. `which`: whether a record is asked for at all.
    """
    found: dict[tuple, dict[str, dict[int, dict]]] = {}
    for record in records:
        run = record["run"]
        if which(record):
            alike = ("dataset", "split", "test_on", "fold", "image_size", "n_filters", "pretrained")
            key = (*(str(run[name]) for name in alike), record["data"].get("folds", ""), record["training"]["epochs"])
            found.setdefault(key, {}).setdefault(run["recipe"], {})[run["seed"]] = record
    kept = []
    for _, recipes in sorted(found.items()):
        common = set.intersection(*(set(seeds) for seeds in recipes.values()))
        if reference in recipes and len(recipes) > 1 and common:
            kept.append({name: {s: recipes[name][s] for s in sorted(common)} for name in RECIPES if name in recipes})
    return kept


def compare(
    runs: dict[str, dict[int, dict]],
    predictions: Callable[[dict], pd.DataFrame],
    resamples: int = 1000,
    reference: str = REFERENCE,
) -> dict[str, dict]:
    """Accuracy of each recipe, averaged over the seeds, and its difference to that of `reference`.

    Args:
        runs: one of `budgets`, or any runs of that form; predictions: record → its table (`Evidence.predictions`).

    Returns:
        recipe → `accuracy` and `difference` {value, low, high} with 95 % intervals over groups of test images (the
        spread between seeds is not in them: it is `seeds`, the accuracy of each), and `validation`, the mean accuracy
        on validation images (NaN of pooled folds, which have one validation set each).

    Raises:
        DataError: a run that tested other images, from another split table.
    """
    right, paths = {}, None
    for name, seeds in runs.items():
        tables = [predictions(record).sort_values("path") for record in seeds.values()]
        for record, table in zip(seeds.values(), tables, strict=True):
            paths = table.path.tolist() if paths is None else paths
            if table.path.tolist() != paths:
                raise DataError(f"{record['id']}: its test images are not those of the runs beside it; run it again")
        right[name] = np.mean([table.label.to_numpy() == table.predicted.to_numpy() for table in tables], axis=0)
    groups = tables[0].group
    return {
        name: {
            "accuracy": mean_interval(right[name], groups, resamples),
            "difference": mean_interval(right[name] - right[reference], groups, resamples),
            "seeds": [record["metrics"]["accuracy"]["value"] for record in seeds.values()],
            "validation": float(np.mean([record["training"].get("val_accuracy", np.nan) for record in seeds.values()])),
        }
        for name, seeds in runs.items()
    }


def gradient_histories(
    runs: dict[str, dict[int, dict]], history: Callable[[dict], pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """The epochs of each recipe that reconstructs, first seed, by recipe; `history` gives those of a record."""
    first = {name: history(next(iter(seeds.values()))) for name, seeds in runs.items()}
    return {name: epochs for name, epochs in first.items() if "gradient_reconstruction" in epochs}
