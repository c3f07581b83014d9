"""Measures what each part of a method contributes, from runs of one budget and the same seeds that differ in one thing.

All of them tested the same images, so two methods are compared image by image; groups are resampled.
"""

# until the tables use compare: this module goes at the merge
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from datasets.catalog import DataError
from utils.evaluation.intervals import mean_interval
from utils.evaluation.paired import corrected, paired_difference
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
        recipe → `accuracy` {value, low, high} with a 95 % interval over groups of test images (the spread between seeds
        is not in it: it is `seeds`, the accuracy of each), `difference` (`mean_difference`; those of all recipes are
        one family, see `as_family`), and `validation`, the mean accuracy on validation images (NaN of pooled folds,
        which have one validation set each).

    Raises:
        DataError: a run that tested other images, from another split table, or was asked for other labels of them.
    """
    tables, asked = {}, None
    for name, seeds in runs.items():
        tables[name] = [predictions(record).sort_values("path") for record in seeds.values()]
        for record, table in zip(seeds.values(), tables[name], strict=True):
            images = table[["path", "label"]].to_numpy().tolist()
            asked = images if asked is None else asked
            if images != asked:
                raise DataError(f"{record['id']}: its test images are not those of the runs beside it; run it again")
    joined = {name: pd.concat(of_seeds, ignore_index=True) for name, of_seeds in tables.items()}
    differences = {name: mean_difference(tables[name], tables[reference], resamples) for name in runs}
    others = [name for name in runs if name != reference]
    differences |= zip(others, as_family([differences[name] for name in others]), strict=True)
    return {
        name: {
            "accuracy": mean_interval(joined[name].label == joined[name].predicted, joined[name].group, resamples),
            "difference": differences[name],
            "seeds": [record["metrics"]["accuracy"]["value"] for record in seeds.values()],
            "validation": float(np.mean([record["training"].get("val_accuracy", np.nan) for record in seeds.values()])),
        }
        for name, seeds in runs.items()
    }


def mean_difference(
    tables: Sequence[pd.DataFrame], references: Sequence[pd.DataFrame], resamples: int = 1000
) -> dict | None:
    """`paired_difference` of two methods, the mean over their seeds, and of each seed alone.

    Args:
        tables, references: the predictions of each seed on the same test images, seeds in the same order.

    Returns:
        {value, low, high, p, by_seed}; None where other images were tested, or other labels were asked for.
    """
    # Every image stands in the tables once a seed, in the same group: the mean over rows is that over seeds.
    joined = (pd.concat(each, ignore_index=True) for each in (tables, references))
    found = paired_difference(*joined, resamples)
    right = [[(t.label == t.predicted).mean() for t in each] for each in (tables, references)]
    gains = [round(float(one - other), 6) for one, other in zip(*right, strict=True)]
    return found and found | {"by_seed": gains}


def as_family(differences: Sequence[dict]) -> list[dict]:
    """Differences that are looked at together, each with `p_corrected`: its `p`, corrected for their number."""
    p = corrected([difference["p"] for difference in differences])
    return [difference | {"p_corrected": float(one)} for difference, one in zip(differences, p, strict=True)]


def gradient_histories(
    runs: dict[str, dict[int, dict]], history: Callable[[dict], pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """The epochs of each recipe that reconstructs, first seed, by recipe; `history` gives those of a record."""
    first = {name: history(next(iter(seeds.values()))) for name, seeds in runs.items()}
    return {name: epochs for name, epochs in first.items() if "gradient_reconstruction" in epochs}
