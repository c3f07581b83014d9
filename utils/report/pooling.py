"""Pools all patient folds of a run into one result: every image is tested once, by a model not trained on its patient.

`make tables` pools the runs in `saved_metrics/`; nothing is trained here.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.labels import classes_of
from utils.evaluation.classification import evaluate
from utils.evaluation.findings import evaluate_findings
from utils.evaluation.outlining import evaluate_outlines
from utils.evaluation.reconstruction import anomaly
from utils.evaluation.segmentation import evaluate_masks
from utils.evaluation.thresholds import screening
from utils.report.records import METRICS, Evidence, load_evidence, run_folder, write_record
from utils.report.validate import read_record
from utils.run import TASKS, Run


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    A pooled record has the metrics of the folds' joined predictions, intervals over all groups, the main metric of each
    fold (`folds`), the ids it was made of (`pooled`), and the epochs of the longest training (`epochs_by_fold` has all
    of them, where they differ). One that is there already and made of the same is kept; one whose folds are no longer
    all there, or were made anew in part, is taken away.
    """
    folds = defaultdict(dict)
    evidence = load_evidence(folder)
    for record in evidence.records:
        run = Run(**record["run"], task=record["task"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    written = []
    for run, records in folds.items():
        folds_wanted = list(range(catalog.get(run.dataset).folds))
        path = run_folder(folder, next(iter(records.values())) | {"id": run.id}) / METRICS
        made_alike = len({record["data"].get("folds", "") for record in records.values()}) == 1
        if sorted(records) != folds_wanted or not made_alike:
            if path.is_file():  # a fold was run anew since, so it no longer says what its folds say
                path.unlink()
            continue
        if not _is_made_of(path, records):
            record = pooled(run, [records[f] for f in folds_wanted], evidence, resamples)
            write_record(path, record)
            written.append(path)
    return written


def _is_made_of(path: Path, records: dict[int, dict]) -> bool:
    made_of = read_record(path)["pooled"] if path.is_file() else None
    return made_of == {record["id"]: record["finished"] for _, record in sorted(records.items())}


def pooled(run: Run, records: list[dict], evidence: Evidence, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    tables = [evidence.predictions(record) for record in records]
    table, facts = pd.concat(tables, ignore_index=True), catalog.get(run.dataset)
    fold = np.repeat(range(len(tables)), [len(part) for part in tables])
    if run.task == "segmentation":
        result = evaluate_masks(table, facts.mask_channels, list(facts.regions), resamples)
    elif run.task == "findings":
        result = evaluate_findings(table, classes_of(run.dataset, run.target), resamples, fold=fold)
    else:
        result = evaluate(table, classes_of(run.dataset, run.target), resamples, fold=fold)
        if "screened" in table:
            result["screening"] = screening(table, resamples)
        if run.task == "localisation":
            result["outline"] = evaluate_outlines(table, resamples)
        if all("anomaly" in record for record in records):
            result["anomaly"] = anomaly(table, classes_of(run.dataset, run.target), resamples, fold=fold)
    main = TASKS[run.task][0]
    first, trained = records[0], [record["training"] for record in records if record["training"]]
    training = None
    if trained:
        epochs = [t["epochs"] for t in trained]
        training = {"epochs": max(epochs), "seconds": sum(t["seconds"] for t in trained)}
        training |= {"epochs_by_fold": epochs} if len(set(epochs)) > 1 else {}
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
