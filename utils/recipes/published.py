"""Reads what the five sources reported: `published.csv`, a row a number with its place, and `projects.csv`, a row each;
and where a report and its authors' code differ: `differences.csv`, each with two recipes that differ in that `value`.

`PROJECTS` has the columns of `projects.csv` as attributes. title, authors, url, licence: as the project's repository
states them, "" where nothing was found; task, data: short descriptions; source, model, dataset, protocol, metric: of
its headline, a row of `published.csv`; recipe: of our run that answers it; missing: the reason where there is none;
nearest: runs by the project's recipe on other data or with another network, where its own are missing.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from datasets.catalog import CLASSES

FOLDER = Path(__file__).parent
PROJECTS = tuple(pd.read_csv(FOLDER / "projects.csv", dtype=str, keep_default_na=False).itertuples(index=False))


@cache
def published_table() -> pd.DataFrame:
    """All reported numbers: source, model, dataset, protocol, metric, label ("" for overall), value, place."""
    return pd.read_csv(FOLDER / "published.csv", dtype={"label": str}, keep_default_na=False)


def differences() -> pd.DataFrame:
    """A row for everything that a report says and its authors' code does otherwise, with the recipes that do both."""
    return pd.read_csv(FOLDER / "differences.csv").drop(columns=["network", "value"])


def published(source: str, model: str, dataset: str, protocol: str) -> dict[str, object] | None:
    """The results that `source` reported for a model on a data set under a protocol, or None.

    Returns:
        metric → value; of a metric by class {label: value} under `metric_by_class`; `confusion`, rows truth, both in
        the order of `CLASSES`.
    """
    rows = published_table().query("source == @source and model == @model and dataset == @dataset")
    found: dict[str, object] = {}
    for metric, part in rows[rows.protocol == protocol].groupby("metric", sort=False):
        values = dict(zip(part.label, part.value, strict=True))
        if metric == "confusion":
            found[metric] = [[int(values[f"{truth}>{decided}"]) for decided in CLASSES] for truth in CLASSES]
            continue
        if "" in values:
            found[metric] = values.pop("")
        if values:
            found[f"{metric}_by_class"] = values
    return found or None
