"""Five patient folds as one result: every image was tested once, by a model that had not seen its patient.

`make tables` pools what lies in `saved_metrics/`; nothing is trained here.
"""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datasets import catalog
from datasets.protocols import FOLDS
from utils.evaluation import evaluate
from utils.runs import Run, load_runs, write_atomically


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    A pooled record has the metrics of the folds' joined predictions, intervals over all groups, the accuracy of each
    fold (`folds`) and the ids it was made of (`pooled`). One that is there already and made of the same is kept.
    """
    folds = defaultdict(dict)
    for record in load_runs(folder):
        run = Run(**record["run"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    written = []
    for run, records in folds.items():
        path = folder / f"{run.id}.json"
        if sorted(records) == list(range(FOLDS)) and not _is_made_of(path, records):
            record = pooled(run, [records[f] for f in range(FOLDS)], folder, resamples)
            write_atomically(path, json.dumps(record, indent=1) + "\n")
            written.append(path)
    return written


def _is_made_of(path: Path, records: dict[int, dict]) -> bool:
    made_of = json.loads(path.read_text())["pooled"] if path.is_file() else None
    return made_of == {record["id"]: record["finished"] for _, record in sorted(records.items())}


def pooled(run: Run, records: list[dict], folder: Path, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    tables = [pd.read_csv(folder / f"{record['id']}.predictions.csv", dtype={"group": str}) for record in records]
    first, trained = records[0], [record["training"] for record in records if record["training"]]
    training = None
    if trained:
        training = {"epochs": trained[0]["epochs"], "seconds": sum(t["seconds"] for t in trained)}
    return {
        "id": run.id,
        "run": first["run"] | {"fold": None},
        "recipe": first["recipe"],
        "parameters": first["parameters"],
        "data": first["data"],
        "training": training,
        "published": None,
        "pooled": {record["id"]: record["finished"] for record in records},
        "folds": [record["metrics"]["accuracy"]["value"] for record in records],
        "unseen": None,
        **evaluate(pd.concat(tables, ignore_index=True), catalog.get(run.dataset).classes, resamples),
    }
