"""Writes the evidence of runs to `saved_metrics/`, whose README gives the schema, and reads it as a data frame.

A record holds the SHA-256 of itself and of its files, and is validated when it is read: a damaged run is named and left
out.
"""

import gzip
import itertools
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from datasets import catalog
from datasets.catalog import DataError
from datasets.reading import read_table, reading
from datasets.store.index import fingerprint, folds_digest
from utils.files import read_sealed, write_atomically, write_sealed
from utils.recipes.published import published
from utils.recipes.recipe import Recipe
from utils.report.weights import save_weights
from utils.run import FULL_SIZE, NO_RECIPE, TASKS, Run, output_root
from utils.training.environment import git_revision, hardware, versions
from utils.training.loop import Fit

METRICS, HISTORY = "metrics.json", "history.csv"
PREDICTIONS, VALIDATION = "predictions.csv.gz", "validation.csv.gz"
POINTING = "pointing.json"  # where a classifier looks, beside its record (`report/pointing.py`)
NEEDED = {POINTING: ["id"], "curation": ["dataset", "data"], "audit": ["home", "new", "relatives", "verdict"]}
FILES = ("*/*/*/*", "curation/*.json", "audit/*.json")
POINTING_TABLE = "pointing.csv.gz"
# Record → the files beside it that are sealed with it; of others, a table of the same name.
SEALED = {METRICS: (HISTORY, PREDICTIONS, VALIDATION), POINTING: (POINTING_TABLE,)}
REMEDY = "bring it back from the repository, or run it again"
# What every record has, and of which type; tables and figures take it as given.
FIELDS = {"id": str, "task": str, "run": dict, "recipe": dict | None, "parameters": int, "trainable": int}
FIELDS |= {"data": dict, "training": dict | None, "published": dict | None, "metrics": dict, "per_class": dict}
FIELDS |= {"images": int, "groups": int}
PARTS = {"value": "", "low": "_low", "high": "_high"}  # of an interval, and the ends of its columns
DEEPER = ("unseen", "by_patient", "tumour_or_none", "screening", "anomaly", "tta", "outline")  # of a record
OF_RECIPE = ("epochs", "loss", "optimizer", "augmentation", "balance", "model_args")
# Columns that `runs` has whatever was run.
COLUMNS = ("id", "task", "tested", "title", "baseline", *Run.__dataclass_fields__, "epochs", "epoch_kept")
COLUMNS += ("train_seconds", "parameters", "trainable", "images", "groups", "patients", "reported", "finished", "git")
COLUMNS += ("pooled", "folds", "is_pooled", "s2_dice", "val_accuracy", "val_dice", "val_loss")
COLUMNS += (*(f"recipe.{name}" for name in OF_RECIPE), *(metric for task in TASKS.values() for metric in task))
BY_FOLDS = ("patient", "cleaned", "external")  # protocols whose images depend on the committed groups and folds
BEST_RECIPE, FINE_TUNED = "probe-first-turned", "fine-tuned"  # a backbone, so named in a table of several models
PROBE = "probe of"  # a backbone: the model of a linear probe, in a table of several models


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
        result: what a task's `evaluate` made of the predictions.
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
    protocol = f"{run.split}, binary" if run.target == "tumour" else run.split
    answers = recipe and run.image_size >= FULL_SIZE
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
    """Write a record as readable JSON, after the files that are sealed with it."""
    write_sealed(path, record, _files_of(path))


def read_whole(path: Path, needs: Iterable[str] = ()) -> dict[str, Any]:
    """A record that `write_record` wrote; `DataError` where it, or a file sealed with it, is not as it was written."""
    return read_sealed(path, REMEDY, needs, _files_of(path))


def _files_of(path: Path) -> tuple[str, ...]:
    """Names of the files beside a record that are sealed with it, as far as they are there."""
    return SEALED.get(path.name, (f"{path.stem}.csv",))


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Write a table of predictions, compressed; the same table gives the same bytes."""
    write_atomically(path, gzip.compress(table.to_csv(index=False).encode(), mtime=0))


def training_facts(fit: Fit) -> dict:
    """Epochs, time, the validation metrics of the weights that were kept, and `changes`, where there were any."""
    kept = fit.history[fit.history.epoch == fit.epoch].iloc[0]
    validation = {name: float(kept[name]) for name in kept.index if name.startswith("val_")}
    facts = {"epochs": len(fit.history), "epoch_kept": fit.epoch, "seconds": fit.seconds} | validation
    return facts | {"changes": fit.changes} if fit.changes else facts


def save_findings(name: str, findings: dict, quick: bool = False) -> Path:
    """Write the findings of curation on data set `name` to `saved_metrics/curation/NAME.json`; returns its path. Those
    of quick tries go to the working folder, as with runs. Only the first of several processes writes."""
    path = output_root() / ("runs/curation" if quick else "saved_metrics/curation") / f"{name}.json"
    record = {"dataset": name, "data": fingerprint(name), "git": git_revision(), "hardware": hardware()}
    record |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")} | findings
    if not int(os.environ.get("RANK", 0)):
        write_record(path, record)
    return path


@dataclass(frozen=True)
class Evidence:
    """All that lies in some folders of evidence.

    Attributes:
        runs: a row a run, its index the id: what was run (`fold` is missing for all folds together) and how, `tested`
            and `title` as tables name them, `pooled` (ids that it was made of) and `folds` (the main metric of each),
            and each metric as `NAME`, `NAME_low` and `NAME_high`, what lies deeper in a record as `tta.gain`.
        curation: the findings of curation, a record a data set; pointing: where classifiers look, a record a run;
            audits: name → record of `python -m utils.audit`.
        folders: where it was looked for; of a run in several the first counts.
        damaged: a line for each run or other file that was left out.
    """

    runs: pd.DataFrame
    curation: list[dict]
    pointing: list[dict]
    audits: dict[str, dict]
    folders: tuple[Path, ...]
    damaged: list[str]
    _records: dict[str, dict]
    _paths: dict[str, Path]

    def record(self, run: str) -> dict:
        """The content of the `metrics.json` of a run, for what is no column, such as the metrics of each class."""
        return self._records[run]

    def path(self, run: str) -> Path:
        """The folder of a run."""
        return self._paths[run]

    def history(self, run: str) -> pd.DataFrame:
        """The epochs of a run, a row each."""
        return read_history(self.path(run) / HISTORY)

    def predictions(self, run: str) -> pd.DataFrame:
        """The test images of a run, a row each; of pooled folds, those of all folds, and `fold` of each."""
        pooled = self.record(run).get("pooled")
        if not pooled:
            return read_predictions(self.path(run) / PREDICTIONS)
        tables = [self.predictions(one).assign(fold=fold) for fold, one in enumerate(pooled)]
        return pd.concat(tables, ignore_index=True)

    def validation(self, run: str) -> pd.DataFrame | None:
        """The validation images of a run, a row each; None where its predictions of them were not kept."""
        path = self.path(run) / VALIDATION
        return read_predictions(path) if path.is_file() else None


def load_evidence(folder: Path | None = None) -> Evidence:
    """What tables and figures are made of, read once a process and again where a file changed: that of `folder`, or by
    default what lies below `$BRAIN_MRI_OUTPUT` and what is committed besides. Left out, and named in a warning: a run
    without its record, with a damaged file or on other folds than the committed ones, and the pooled run of which it is
    part."""
    committed = (output_root() / "saved_metrics", catalog.REPO / "saved_metrics")
    folders = (Path(folder),) if folder else tuple(dict.fromkeys(committed))
    files = [(path, path.stat()) for each in folders for kind in FILES for path in sorted(each.glob(kind))]
    evidence = _read(folders, tuple((path, facts.st_mtime_ns, facts.st_size) for path, facts in files))
    for line in evidence.damaged:
        warnings.warn(f"left out: {line}", stacklevel=2)
    return evidence


@lru_cache(maxsize=2)
def _read(folders: tuple[Path, ...], files: tuple) -> Evidence:
    found: dict[str, dict] = {kind: {} for kind in (METRICS, *NEEDED)}
    paths, damaged, spoilt = {}, [], set()
    beside = {folder: tuple(of) for folder, of in itertools.groupby(files, lambda file: file[0].parent)}
    for path, *_ in files:
        kind, name = path.name, path.parent.name
        if name in found:
            kind, name = name, path.stem
        if kind not in found or name in found[kind]:
            continue
        try:
            content = _read_once(path, kind, beside[path.parent])
        except DataError as error:
            damaged.append(str(error))
            spoilt.add(name)
            continue
        if kind == METRICS and on_old_folds(content):
            warnings.warn(f"left out: {path}: was split by other folds than are committed now", stacklevel=4)
            spoilt.add(name)
            continue
        found[kind][name] = content
        paths |= {name: path.parent} if kind == METRICS else {}
    whole = {path.parent for path, *_ in files if path.name == METRICS}
    for orphan in sorted({path.parent for path, *_ in files if path.name in (*SEALED[METRICS], POINTING)} - whole):
        damaged.append(f"{orphan}: has no {METRICS}; {REMEDY}")
    records = {name: one for name, one in sorted(found[METRICS].items()) if not spoilt & {*one.get("pooled", ())}}
    pointing = [one for name, one in sorted(found[POINTING].items()) if name in records]
    curation = [one for _, one in sorted(found["curation"].items())]
    audits = dict(sorted(found["audit"].items()))
    return Evidence(_run_frame(records), curation, pointing, audits, folders, damaged, records, paths)


@cache
def _read_once(path: Path, kind: str, beside: tuple) -> dict[str, Any]:
    """A record, read again only when one of the files `beside` it has changed."""
    return read_record(path) if kind == METRICS else read_whole(path, NEEDED[kind])


def on_old_folds(record: Mapping) -> bool:
    """Whether a record was made on other groups or folds than are committed now."""
    by_folds = record["run"]["split"] in BY_FOLDS
    return by_folds and folds_digest(record["run"]["dataset"]) not in ("", record["data"]["folds"])


def read_record(path: Path) -> dict[str, Any]:
    """The record in a `metrics.json`; raises `DataError` where it cannot be read, it or a file beside it is not as it
    was written, it lacks a field, is of another run than its folder says, or holds an interval that is none."""
    record = read_whole(path, FIELDS)
    with reading(path, REMEDY, "not the record of a run"):
        for name, kind in FIELDS.items():
            _want(isinstance(record[name], kind) and not isinstance(record[name], bool), f"'{name}'")
        try:
            found = Run(**record["run"] | {"task": record["task"]}).id
        except DataError as error:  # it names the model or data set, not the file
            raise ValueError(error) from error
        _want(found == record["id"] == path.parent.name, f"it is of the run '{found}', not of that of its folder")
        _want("folds" in record["data"], "its data name no folds")
        for name in TASKS[record["task"]]:
            _want(name in record["metrics"], f"its metric '{name}' is missing")
        for name, entry in record["metrics"].items():
            _want(isinstance(entry, dict) and entry.keys() == PARTS.keys(), f"its metric '{name}' is no interval")
        _want(all(isinstance(entry, dict) for entry in record["per_class"].values()), "its classes")
        found = [(name, [entry.get(part) for part in ("low", "value", "high")]) for name, entry in intervals(record)]
        found += [(name, [record["training"][name]]) for name in ("epochs", "seconds")] if record["training"] else []
        for name, values in found:
            for value in values:
                plain = value is None or (not isinstance(value, bool | str) and math.isfinite(value))
                _want(plain, f"{value!r} in place of a number")
            _want(None in values or values == sorted(values), f"its '{name}' lies outside its interval")
    return record


def _want(fact: bool, what: str) -> None:
    if not fact:
        raise ValueError(what)


def intervals(content: object, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Every {value, low, high} in a record, however deep, and its name, with dots between the levels."""
    if isinstance(content, dict) and "value" in content:
        yield prefix.rstrip("."), content
    elif isinstance(content, dict):
        for name, part in content.items():
            yield from intervals(part, f"{prefix}{name}.")


def read_history(path: Path) -> pd.DataFrame:
    """The epochs of a run, a row each."""
    table = read_table(path, REMEDY, ["epoch", "seconds"], dtype={"stage": str})
    with reading(path, REMEDY, "damaged"):
        for name in table.columns.drop("stage", errors="ignore"):
            _want(table[name].dtype.kind in "iuf", f"its column '{name}' holds other things than numbers")
        _want(table.epoch.tolist() == list(range(1, len(table) + 1)), "its epochs are not numbered from 1 on")
    return table


def read_predictions(path: Path) -> pd.DataFrame:
    """The test images of a run, a row each. A class may be called "None" or "NA": only an empty cell is missing."""
    how = {"dtype": {"group": str, "patient": str}, "keep_default_na": False, "na_values": [""]}
    return read_table(path, REMEDY, ["path", "group"], **how)


def _run_frame(records: dict[str, dict]) -> pd.DataFrame:
    parts = {one for record in records.values() for one in record.get("pooled", ())}
    rows = [_run_row(record) | {"is_pooled": name in parts} for name, record in records.items()]
    runs = pd.DataFrame(rows, list(records))
    runs = runs.reindex(columns=dict.fromkeys([*COLUMNS, *runs])).astype({} if records else object)
    whole = dict.fromkeys(("fold", "epochs", "epoch_kept", "patients"), "Int64")
    return runs.astype(whole | dict.fromkeys(("baseline", "is_pooled"), bool)).copy()  # in one block


def _run_row(record: dict) -> dict:
    run, recipe, training = record["run"], record["recipe"] or {}, record["training"] or {}
    kind = {"probe": f"{PROBE} ", BEST_RECIPE: f"{FINE_TUNED} "}.get(run["recipe"], "")
    row = {"id": record["id"], "task": record["task"], "tested": split_words(run), "title": kind + run["model"], **run}
    row["baseline"] = run["recipe"] in (NO_RECIPE, "probe")
    row |= {f"recipe.{name}": recipe.get(name) for name in OF_RECIPE}
    row |= {name: value for name, value in training.items() if name.startswith("val_")}
    row |= {"epochs": training.get("epochs"), "epoch_kept": training.get("epoch_kept")}
    row |= {"train_seconds": training.get("seconds")}
    named = ("parameters", "trainable", "images", "groups", "folds", "patients", "finished", "git")
    row |= {name: record.get(name) for name in named}
    row["pooled"] = list(record["pooled"]) if "pooled" in record else None
    row["reported"] = (record["published"] or {}).get(TASKS[record["task"]][0])
    row["s2_dice"] = record.get("s2_pooling", {}).get("dice")
    deeper = {key: record[key] for key in DEEPER if key in record}
    deeper["grad_cam.all"] = (record.get("grad_cam") or {}).get("all")
    return row | columns_of(record["metrics"].items()) | columns_of(intervals(deeper))


def split_words(run: Mapping) -> str:
    """The protocol of a run in a table's words."""
    if run["split"] == "patient":
        return "patient, all folds" if run["fold"] is None else f"patient fold {run['fold']}"
    if run["split"] == "source":
        return f"without {catalog.get(run['dataset']).joins[run['fold']]}"
    return f"external: {run['test_on']}" if run["split"] == "external" else run["split"]


def columns_of(metrics: Iterable[tuple[str, dict]]) -> dict:
    """Names and their {value, low, high} as columns `NAME`, `NAME_low` and `NAME_high`."""
    return {name + end: entry[part] for name, entry in metrics for part, end in PARTS.items()}
