"""A source's own table of networks, made again from our runs by its recipe: a row a network that it reported.

`python -m utils.reporting.readme s4` prints one.
"""

import pandas as pd

from utils.recipes.projects import PROJECTS
from utils.recipes.published import published, published_table
from utils.reporting.records import Evidence
from utils.reporting.tables.common import NONE, format_ci

BINARY = ", binary"  # behind a protocol of `published.csv`: tumour or none was asked
METRICS = {  # column → metric of a record and of `published.csv`; the first is also shown by patient
    "accuracy %": "accuracy",
    "top-5 accuracy %": "top5_accuracy",
    "macro precision %": "macro_precision",
    "macro recall %": "macro_recall",
    "macro F2 %": "macro_f2",
    "macro AUC %": "macro_auc",
}
BASELINES = ("1-NN", "majority")


def reported_runs(evidence: Evidence, source: str) -> pd.DataFrame:
    """One row a network and question: what `source` reported and what its recipe gives here, on its own split, and by
    patient; then what else was run by its recipe on its data, and the baselines. What was not run says why.
    """
    table = published_table()
    mine = next(project for project in PROJECTS if project.source == source)
    asked = table[(table.source == source) & (table.dataset == mine.dataset)]
    rows, answered = [], set()
    for model, protocol in asked[["model", "protocol"]].drop_duplicates().itertuples(index=False):
        record = _find(evidence.transfer, mine.dataset, model, protocol, source)
        answered |= {record["id"]} if record else set()
        rows.append(_row(evidence, mine.dataset, model, protocol, source, mine.missing))
    for protocol in asked.protocol.unique():
        others = [r for r in evidence.transfer if r["run"]["recipe"] == source and r["id"] not in answered]
        models = {r["run"]["model"] for r in others if _matches(r["run"], mine.dataset, protocol)}
        rows += [_row(evidence, mine.dataset, model, protocol, source, "") for model in sorted(models)]
        rows += [_row(evidence, mine.dataset, model, protocol, "none", "") for model in BASELINES]
    shown = pd.DataFrame(rows)
    return shown.loc[:, (shown != NONE).any()]  # no column for what nobody reported and nobody ran


def _row(evidence: Evidence, dataset: str, model: str, protocol: str, recipe: str, missing: str) -> dict[str, str]:
    records = evidence.transfer if recipe != "none" else evidence.classification
    same = _find(records, dataset, model, protocol, recipe)
    by_patient = _find(records, dataset, model, "patient" + BINARY * protocol.endswith(BINARY), recipe)
    told = published(recipe, model, dataset, protocol) or {}
    row = {
        "network": model if told or recipe == "none" else f"{model} (not in the report)",
        "asked": "tumour or none" if protocol.endswith(BINARY) else "all classes",
        "split": protocol.removesuffix(BINARY),
    }
    for column, metric in METRICS.items():
        row[f"{column}: reported"] = f"{100 * told[metric]:.1f}" if metric in told else NONE
        known = same and metric in same["metrics"] and not (metric.startswith("top") and recipe == "none")
        row[f"{column}: ours"] = format_ci(same["metrics"][metric]) if known else NONE  # 1-NN ranks no second class
    row["accuracy %: ours, by patient or group"] = format_ci(by_patient["metrics"]["accuracy"]) if by_patient else NONE
    row["minutes of training: reported"] = f"{told['train_seconds'] / 60:.0f}" if "train_seconds" in told else NONE
    trained = same and same["training"]
    row["minutes of training: ours"] = f"{trained['seconds'] / 60:.0f}" if trained else NONE
    row["epochs, pixels"] = f"{trained['epochs']}, {same['run']['image_size']}" if trained else NONE
    row["remark"] = NONE if same or not told else f"not run here: {missing}" if missing else "not run here"
    return row


def _matches(run: dict, dataset: str, protocol: str) -> bool:
    target = "tumour" if protocol.endswith(BINARY) else "label"
    wanted = (dataset, protocol.removesuffix(BINARY), target)
    return (run["dataset"], run["split"], run.get("target", "label")) == wanted


def _find(records: list[dict], dataset: str, model: str, protocol: str, recipe: str) -> dict | None:
    """The run on most images, all folds before one; pretrained before from scratch."""
    found = [
        r
        for r in records
        if _matches(r["run"], dataset, protocol) and (r["run"]["model"], r["run"]["recipe"]) == (model, recipe)
    ]
    return max(found, key=lambda r: (r["images"], bool(r["run"]["pretrained"])), default=None)
