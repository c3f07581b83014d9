"""A source's own table of networks, made again from our runs by its recipe: a row a network that it reported."""

import pandas as pd

from datasets.labels import CLASS_TARGETS
from utils.recipes.projects import PROJECTS
from utils.recipes.published import published, published_table
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import BEST_PROBE, NONE, cell, format_ci, mark, seconds_of_one, tested

BINARY = ", binary"  # behind a protocol of `published.csv`: tumour or none was asked
ASKED = {"label": "all classes", "tumour": "tumour or none", "type": "type of tumour", "sequence": "MR sequence"}
METRICS = {  # column → metric of a record and of `published.csv`; the first is also shown by patient
    "accuracy %": "accuracy",
    "top-5 accuracy %": "top5_accuracy",
    "macro precision %": "macro_precision",
    "macro recall %": "macro_recall",
    "macro F2 %": "macro_f2",
    "macro AUC %": "macro_auc",
}
BASELINES = (BEST_PROBE, "1-NN", "majority")


def reported_runs(evidence: Evidence, source: str) -> pd.DataFrame:
    """One row a network and question: what `source` reported and what its recipe gives here, on its own split, and by
    patient or group. What was not run says why.

    Below stands what else has a record: other networks by that recipe, on its data or on others, and the baselines.
    """
    table = published_table()
    mine = next(project for project in PROJECTS if project.source == source)
    reported = table[(table.source == source) & (table.dataset == mine.dataset)]
    protocols = [*reported.protocol.unique()]
    splits = {protocol.removesuffix(BINARY) for protocol in protocols}
    rows, shown = [], set()
    for model, protocol in reported[["model", "protocol"]].drop_duplicates().itertuples(index=False):
        wanted = (mine.dataset, protocol.removesuffix(BINARY), "tumour" if protocol.endswith(BINARY) else "label")
        shown.add((model, *wanted))
        rows.append(_row(evidence, model, *wanted, source, mine.missing))
    of_recipe = {(r["run"]["model"], *question(r["run"])) for r in evidence.transfer if r["run"]["recipe"] == source}
    others = sorted(run for run in of_recipe - shown if run[2] in splits)
    rows += [_row(evidence, *run, source, "") for run in others]
    for name in dict.fromkeys([mine.dataset, *(run[1] for run in others)]):
        for wanted in ((name, split, target) for target in CLASS_TARGETS for split in sorted(splits)):
            known = [model for model in BASELINES if _find(evidence.classifiers, model, *wanted)]
            rows += [_row(evidence, model, *wanted, "", "") for model in known]
    shown = pd.DataFrame(rows)
    return shown.loc[:, (shown != NONE).any()]  # no column for what nobody reported and nobody ran


def question(run: dict) -> tuple[str, str, str]:
    """Data set, split and target of a run."""
    return run["dataset"], run["split"], run.get("target", "label")


def of_source(evidence: Evidence, source: str) -> list[dict]:
    """The records of networks trained by the recipe of `source`, single folds only."""
    return [r for r in evidence.transfer if r["run"]["recipe"] == source and not r.get("pooled")]


def _row(
    evidence: Evidence, model: str, dataset: str, split: str, target: str, recipe: str, missing: str
) -> dict[str, str]:
    """`recipe` "" stands for a baseline."""
    records = evidence.transfer if recipe else evidence.classifiers
    same = _find(records, model, dataset, split, target, recipe)
    reported = (recipe and published(recipe, model, dataset, split + BINARY * (target == "tumour"))) or {}
    row = {"network": model if reported or not recipe else f"{model} (not in the report)", "data set": dataset}
    row |= {"asked": ASKED[target], "split": tested(same) if same else split}
    for column, metric in METRICS.items():
        row[f"{column}: reported"] = f"{100 * reported[metric]:.1f}" if metric in reported else NONE
        ranked = model not in ("1-NN", "majority") or not metric.startswith("top")  # which rank no second class
        row[f"{column}: ours"] = cell(same, metric) if same and metric in same["metrics"] and ranked else NONE
    by_group = _find(records, model, dataset, "patient", target, recipe) if split != "patient" else None
    row["accuracy %: ours, by patient or group"] = cell(by_group, "accuracy")
    whole = same and same.get("by_patient")
    row["accuracy %: ours, a decision a patient"] = format_ci(whole["accuracy"]) + mark(same) if whole else NONE
    trained = (same and same["training"]) or {}
    for column, value, theirs in (
        ("validation loss", trained.get("val_loss"), reported.get("val_loss")),
        ("minutes of training", _minutes(trained and seconds_of_one(same)), _minutes(reported.get("train_seconds"))),
    ):
        row[f"{column}: reported"], row[f"{column}: ours"] = (
            NONE if v is None else f"{v:.3g}" for v in (theirs, value)
        )
    row["epochs, pixels"] = f"{trained['epochs']}, {same['run']['image_size']}" if trained else NONE
    row["remark"] = NONE if same or not reported else f"not run here: {missing}" if missing else "not run here"
    return row


def _minutes(seconds: float | dict | None) -> float | None:
    return seconds / 60 if seconds else None


def _find(records: list[dict], model: str, dataset: str, split: str, target: str, recipe: str = "") -> dict | None:
    """The run on most images, all folds before one; pretrained before from scratch."""
    found = [
        r
        for r in records
        if question(r["run"]) == (dataset, split, target)
        and r["run"]["model"] == model
        and (not recipe or r["run"]["recipe"] == recipe)
        and r["run"].get("view", "stored") == "stored"
    ]
    return max(found, key=lambda r: (r["images"], bool(r["run"]["pretrained"])), default=None)
