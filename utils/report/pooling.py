"""Pools all patient folds of a run into one result: every image is tested once, by a model not trained on its patient.

`make tables` pools the runs in `saved_metrics/`; nothing is trained here.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datasets import catalog
from datasets.labels import classes_of
from utils.report.records import METRICS, Evidence, load_evidence, run_folder, write_record
from utils.report.validate import read_record
from utils.run import Run
from utils.training.tasks import TASKS


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    A pooled record has the metrics of the folds' joined predictions, intervals over all groups, the main metric of each
    fold (`folds`), the ids it was made of (`pooled`), and the epochs of the longest training (`epochs_by_fold` has all
    of them, where they differ). One that is there already and made of the same is kept; one whose folds are no longer
    all there, or were made anew in part, is taken away.
    """
    evidence, folds, written = load_evidence(folder), defaultdict(dict), []
    for record in map(evidence.record, evidence.runs.id):
        run = Run(**record["run"], task=record["task"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    for run, of in folds.items():
        records = [of[fold] for fold in sorted(of)]
        path = run_folder(folder, records[0] | {"id": run.id}) / METRICS
        if sorted(of) != list(range(catalog.get(run.dataset).folds)):
            path.unlink(missing_ok=True)  # a fold was run anew since, so it no longer says what its folds say
        elif not path.is_file() or read_record(path)["pooled"] != _made_of(records):
            write_record(path, pooled(run, records, evidence, resamples))
            written.append(path)
    return written


def _made_of(records: list[dict]) -> dict[str, str]:
    return {record["id"]: record["finished"] for record in records}


def pooled(run: Run, records: list[dict], evidence: Evidence, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    task, facts, first = TASKS[run.task], catalog.get(run.dataset), records[0]
    tables = [evidence.predictions(record["id"]).assign(fold=fold) for fold, record in enumerate(records)]
    table = pd.concat(tables, ignore_index=True)
    names = facts.mask_channels if run.task == "segmentation" else classes_of(run.dataset, run.target)
    trained = [record["training"] for record in records if record["training"]]
    training = None
    if trained:
        epochs = [one["epochs"] for one in trained]
        training = {"epochs": max(epochs), "seconds": sum(one["seconds"] for one in trained)}
        training |= {"epochs_by_fold": epochs} if len(set(epochs)) > 1 else {}
    return {
        "id": run.id,
        "task": run.task,
        "run": first["run"] | {"fold": None},
        **{name: first[name] for name in ("recipe", "parameters", "trainable", "data")},
        "training": training,
        "published": None,
        "pooled": _made_of(records),
        "folds": [record["metrics"][task.reported[0]]["value"] for record in records],
        "unseen": None,
        **task.evaluate(table.drop(columns="fold"), names, resamples, fold=table.fold),
    }
