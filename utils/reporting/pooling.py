"""All patient folds as one result: every image was tested once, by a model that had not seen its patient.

`make tables` pools what lies in `saved_metrics/`; nothing is trained here.
"""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datasets import catalog
from datasets.labels import classes_of
from utils.evaluation.classification import evaluate
from utils.evaluation.findings import evaluate_findings
from utils.evaluation.intervals import number
from utils.evaluation.screening import screening
from utils.evaluation.segmentation import evaluate_masks
from utils.reporting.records import METRICS, Evidence, load_evidence, run_folder, write_record
from utils.reporting.runs import Run

MAIN = {"segmentation": "dice", "findings": "macro_auc"}  # metric of a fold that a pooled record names, by task


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    A pooled record has the metrics of the folds' joined predictions, intervals over all groups, the accuracy of each
    fold (`folds`; of a segmentation its Dice) and the ids it was made of (`pooled`). One that is there already and made
    of the same is kept.
    """
    folds = defaultdict(dict)
    evidence = load_evidence(folder)
    for record in evidence.records:
        run = Run(**record["run"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    written = []
    for run, records in folds.items():
        folds_wanted = list(range(catalog.get(run.dataset).folds))
        if sorted(records) != folds_wanted:
            continue
        path = run_folder(folder, records[0] | {"id": run.id}) / METRICS
        if not _is_made_of(path, records):
            record = pooled(run, [records[f] for f in folds_wanted], evidence, resamples)
            write_record(path, record)
            written.append(path)
    return written


def _is_made_of(path: Path, records: dict[int, dict]) -> bool:
    made_of = json.loads(path.read_text())["pooled"] if path.is_file() else None
    return made_of == {record["id"]: record["finished"] for _, record in sorted(records.items())}


def pooled(run: Run, records: list[dict], evidence: Evidence, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    tables = [evidence.predictions(record) for record in records]
    table, facts = pd.concat(tables, ignore_index=True), catalog.get(run.dataset)
    if run.task == "segmentation":
        result = evaluate_masks(table, facts.mask_channels, list(facts.regions), resamples)
    elif run.task == "findings":
        result = evaluate_findings(table, classes_of(run.dataset, run.target), resamples)
    else:
        result = evaluate(table, classes_of(run.dataset, run.target), resamples)
        if "screened" in table:
            result["screening"] = screening(table, resamples)
        if all("anomaly" in record for record in records):
            # Each fold has its own network, so errors are not ranked across folds: the mean of their AUCs.
            found = pd.DataFrame(
                [{name: e["value"] for name, e in r["anomaly"].items()} for r in records], dtype=float
            ).mean()
            result["anomaly"] = {name: {"value": number(v), "low": None, "high": None} for name, v in found.items()}
    main = MAIN.get(run.task, "accuracy")
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
