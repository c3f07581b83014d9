"""Writes the evidence of runs to `saved_metrics/`, and reads it for every table and figure.

`saved_metrics/README.md` gives the schema; `tables/run_list.py` makes one row a run of it.
"""

import gzip
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from torch import nn

from datasets import catalog
from datasets.catalog import DataError
from datasets.reading import read_json
from datasets.store.index import fingerprint, folds_digest
from utils.files import write_atomically
from utils.recipes.published import published
from utils.recipes.recipe import Recipe
from utils.report.validate import (
    HISTORY,
    METRICS,
    PREDICTIONS,
    REMEDY,
    VALIDATION,
    check_files,
    read_history,
    read_predictions,
    read_record,
)
from utils.report.weights import save_weights
from utils.run import FULL_SIZE, Run, output_root
from utils.training.environment import git_revision, hardware, versions
from utils.training.loop import Fit

BY_FOLDS = ("patient", "cleaned", "external")  # protocols whose images depend on the committed groups and folds
BEST_RECIPE, FINE_TUNED = "probe-first-turned", "fine-tuned"  # a backbone, so named in a table of several models
PROBE = "probe of"  # a backbone: the model of a linear probe, in a table of several models
POINTING = "pointing.json"  # where a classifier looks, beside its record (`report/pointing.py`)
FINDINGS = ("dataset", "data")  # what every finding of curation has


def save_run(
    run: Run,
    result: dict,
    predictions: pd.DataFrame,
    *,
    model: nn.Module | None = None,
    recipe: Recipe | None = None,
    fit: Fit | None = None,
    sizes: dict[str, int] | None = None,
    validation: pd.DataFrame | None = None,
) -> Path:
    """Write the evidence of a run; returns the path of its `metrics.json`. Only the first of several processes writes.

    Args:
        result: from `classification.evaluate` or `segmentation.evaluate_masks`; predictions: the table it was made of.
        model, recipe, fit: None for a baseline. Weights go to `saved_models/` with a card beside them.
        sizes: number of images in train, val and test.
        validation: predictions on the validation set, for what is chosen after training, such as an ensemble.

    Raises:
        DataError: the data set is no longer the one that was trained on.
    """
    folder = run.metrics_folder
    if int(os.environ.get("RANK", 0)):
        return folder / METRICS
    data = fingerprint(run.dataset)
    if fit and fit.data not in (None, data):
        raise DataError(
            f"{catalog.dataset_dir(run.dataset)}: '{run.dataset}' has changed since it was trained on; nothing was "
            f"saved. Bring the former data back, or delete {run.folder} and start again."
        )
    answers = recipe and run.image_size >= FULL_SIZE
    protocol = run.split + ", binary" * (run.target == "tumour")
    reported = published(recipe.name, run.model, run.dataset, protocol) if answers else None
    record = {
        "id": run.id,
        "task": run.task,
        "run": {name: value for name, value in asdict(run).items() if name != "task"},
        "recipe": asdict(recipe) if recipe else None,
        "parameters": sum(p.numel() for p in model.parameters()) if model else 0,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad) if model else 0,
        "parts": sizes or {},
        "data": data | {"folds": folds_digest(run.dataset)},
        "versions": versions(),
        "git": git_revision(),
        "hardware": hardware(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "training": training_facts(fit) if fit else None,
        "published": {"source": recipe.source} | reported if reported else None,
        **result,
    }
    write_predictions(folder / PREDICTIONS, predictions)
    if validation is not None:
        write_predictions(folder / VALIDATION, validation)
    if fit:
        write_atomically(folder / HISTORY, fit.history.to_csv(index=False))
    if model:
        save_weights(model, run, record)
    write_record(folder / METRICS, record)
    return folder / METRICS


def write_record(path: Path, record: dict) -> None:
    """Write a record as readable JSON."""
    write_atomically(path, json.dumps(record, indent=1) + "\n")


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Write a table of predictions, compressed; the same table gives the same bytes."""
    write_atomically(path, gzip.compress(table.to_csv(index=False).encode(), mtime=0))


def training_facts(fit: Fit) -> dict:
    """Epochs, time, the validation metrics of the weights that were kept, and `changes`, where there were any."""
    kept = fit.history[fit.history.epoch == fit.epoch].iloc[0]
    validation = {name: float(kept[name]) for name in kept.index if name.startswith("val_")}
    changes = {"changes": fit.changes} if fit.changes else {}
    return {"epochs": len(fit.history), "epoch_kept": fit.epoch, "seconds": fit.seconds} | validation | changes


def save_findings(name: str, findings: dict, quick: bool = False) -> Path:
    """Write the findings of curation on data set `name` to `saved_metrics/curation/NAME.json`; returns its path.

    Those of quick tries go to the working folder, as with runs. Only the first of several processes writes.
    """
    folder = output_root() / ("runs/curation" if quick else "saved_metrics/curation")
    record = {"dataset": name, "data": fingerprint(name), "git": git_revision(), "hardware": hardware()}
    record |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")} | findings
    if not int(os.environ.get("RANK", 0)):
        write_record(folder / f"{name}.json", record)
    return folder / f"{name}.json"


@dataclass(frozen=True)
class Evidence:
    """All that lies in a folder of evidence: the records of runs by id, the findings of curation by data set, and where
    classifiers look, by the id of their run.

    `damaged`: a line for each run or finding that was left out, since a file of it is damaged.
    """

    folder: Path
    records: list[dict]
    findings: list[dict]
    pointing: list[dict] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def of(self, task: str) -> list[dict]:
        """The records of one task, a key of `tasks.TASKS`."""
        return [record for record in self.records if record["task"] == task]

    @property
    def classification(self) -> list[dict]:
        return self.of("classification")

    @property
    def segmentation(self) -> list[dict]:
        return self.of("segmentation")

    @property
    def multitask(self) -> list[dict]:
        return self.of("multitask")

    @property
    def localisation(self) -> list[dict]:
        return self.of("localisation")

    @property
    def transfer(self) -> list[dict]:
        """Backbones that were trained; `probes` has those that were not."""
        return [record for record in self.of("transfer") if record["run"]["recipe"] != "probe"]

    @property
    def probes(self) -> list[dict]:
        """Linear probes: a frozen backbone and a logistic regression."""
        return [record for record in self.of("transfer") if record["run"]["recipe"] == "probe"]

    @property
    def classifiers(self) -> list[dict]:
        """Networks from scratch and all that they have to beat: nearest neighbour, majority, and each linear probe as
        a model of its own, `probe of BACKBONE`. Like the other baselines a probe has no recipe here."""
        named = [r | {"recipe": None, "run": r["run"] | {"model": f"{PROBE} {r['run']['model']}"}} for r in self.probes]
        return self.classification + named

    @property
    def headline(self) -> list[dict]:
        """`classifiers`, and the best way to train found here: pretrained networks fine-tuned from their linear probe,
        each as a model of its own, `fine-tuned BACKBONE`."""
        best = [r for r in self.transfer if r["run"]["recipe"] == BEST_RECIPE]
        named = [r | {"run": r["run"] | {"model": f"{FINE_TUNED} {r['run']['model']}"}} for r in best]
        return self.classifiers + named

    def history(self, record: dict) -> pd.DataFrame:
        """The epochs of a run, a row each."""
        return read_history(run_folder(self.folder, record) / HISTORY)

    def predictions(self, record: dict) -> pd.DataFrame:
        """The test images of a run, a row each; of pooled folds, those of all folds, and `fold` of each."""
        if "pooled" not in record:
            return read_predictions(run_folder(self.folder, record) / PREDICTIONS)
        folders = [run_folder(self.folder, record | {"id": one}) for one in record["pooled"]]
        tables = [read_predictions(f / PREDICTIONS).assign(fold=fold) for fold, f in enumerate(folders)]
        return pd.concat(tables, ignore_index=True)

    def validation(self, record: dict) -> pd.DataFrame | None:
        """The validation images of a run, a row each; None where its predictions of them were not kept."""
        path = run_folder(self.folder, record) / VALIDATION
        return read_predictions(path) if path.is_file() else None


def run_folder(root: Path, record: dict) -> Path:
    """Folder of a record below `saved_metrics/`."""
    return root / record["task"] / record["run"]["dataset"] / record["id"]


def load_evidence(folder: Path | None = None) -> Evidence:
    """What tables and figures are made of; `folder` is `saved_metrics/` by default.

    A run with a damaged file is left out, and so is the pooled run that it is part of: a warning names the file.
    """
    folder = folder or output_root() / "saved_metrics"
    records, findings, damaged, spoilt = [], [], [], set()
    for path in sorted(folder.glob(f"*/*/*/{METRICS}")):
        try:
            record = read_record(path)
            check_files(path.parent)
            records.append(record | {"old_folds": on_old_folds(record)})
        except DataError as error:
            damaged.append(str(error))
            spoilt.add(path.parent.name)
    for path in sorted((folder / "curation").glob("*.json")):
        try:
            findings.append(read_json(path, REMEDY, FINDINGS))
        except DataError as error:
            damaged.append(str(error))
    pointing = []
    for path in sorted(folder.glob(f"*/*/*/{POINTING}")):
        try:
            pointing.append(read_json(path, REMEDY, ["id"]))
        except DataError as error:
            damaged.append(str(error))
    for line in damaged:
        warnings.warn(f"left out: {line}", stacklevel=2)
    records = [record for record in records if not spoilt & set(record.get("pooled", ()))]
    records.sort(key=lambda record: record["id"])
    marks = {record["id"]: record["old_folds"] for record in records}
    pointing = [found | {"old_folds": marks[found["id"]]} for found in pointing if found["id"] in marks]
    return Evidence(folder, records, findings, sorted(pointing, key=lambda found: found["id"]), damaged)


def on_old_folds(record: Mapping) -> bool:
    """Whether a record was made on other groups or folds than are committed now; older records do not say on which."""
    run = record["run"]
    digest = folds_digest(run["dataset"]) if run["split"] in BY_FOLDS else ""
    return bool(digest) and record.get("data", {}).get("folds") != digest
