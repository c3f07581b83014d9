"""All patient folds as one result: every image was tested once, by a model that had not seen its patient.

`make tables` pools what lies in `saved_metrics/`; nothing is trained here.
"""

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datasets import catalog
from utils.decision import screening
from utils.evaluation import evaluate, number
from utils.runs import CARD_METRICS, Run, load_predictions, load_runs, write_atomically
from utils.segmentation import evaluate_masks


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    A pooled record has the metrics of the folds' joined predictions, intervals over all groups, the accuracy of each
    fold (`folds`; of a segmentation its Dice) and the ids it was made of (`pooled`). One that is there already and made
    of the same is kept.
    """
    folds = defaultdict(dict)
    for record in itertools.chain(*(load_runs(folder, task) for task in CARD_METRICS)):
        run = Run(**record["run"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    written = []
    for run, records in folds.items():
        path = folder / f"{run.id}.json"
        folds_wanted = list(range(catalog.get(run.dataset).folds))
        if sorted(records) == folds_wanted and not _is_made_of(path, records):
            record = pooled(run, [records[f] for f in folds_wanted], folder, resamples)
            write_atomically(path, json.dumps(record, indent=1) + "\n")
            written.append(path)
    return written


def _is_made_of(path: Path, records: dict[int, dict]) -> bool:
    made_of = json.loads(path.read_text())["pooled"] if path.is_file() else None
    return made_of == {record["id"]: record["finished"] for _, record in sorted(records.items())}


def pooled(run: Run, records: list[dict], folder: Path, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    tables = [load_predictions(record, folder) for record in records]
    table, facts = pd.concat(tables, ignore_index=True), catalog.get(run.dataset)
    if run.task == "segmentation":
        result = evaluate_masks(table, facts.mask_channels, list(facts.regions), resamples)
    else:
        result = evaluate(table, facts.classes, resamples)
        if "screened" in table:
            result["screening"] = screening(table, resamples)
        if all("anomaly" in record for record in records):
            # Each fold has its own network, so errors are not ranked across folds: the mean of their AUCs.
            found = pd.DataFrame(
                [{name: e["value"] for name, e in r["anomaly"].items()} for r in records], dtype=float
            ).mean()
            result["anomaly"] = {name: {"value": number(v), "low": None, "high": None} for name, v in found.items()}
    main = "dice" if run.task == "segmentation" else "accuracy"
    first, trained = records[0], [record["training"] for record in records if record["training"]]
    training = None
    if trained:
        training = {"epochs": trained[0]["epochs"], "seconds": sum(t["seconds"] for t in trained)}
    return {
        "id": run.id,
        "task": run.task,
        "run": first["run"] | {"fold": None},
        "recipe": first["recipe"],
        "parameters": first["parameters"],
        "trainable": first.get("trainable", first["parameters"]),  # records of the first chapters lack it
        "data": first["data"],
        "training": training,
        "published": None,
        "pooled": {record["id"]: record["finished"] for record in records},
        "folds": [record["metrics"][main]["value"] for record in records],
        "unseen": None,
        **result,
    }
