"""Every result that the five projects reported, beside ours under the same protocol and by patient; recall by class."""

from collections.abc import Sequence

import pandas as pd

from utils.recipes.projects import PROJECTS
from utils.recipes.published import published, published_table
from utils.reporting.ledger.rows import Row
from utils.reporting.records import Evidence
from utils.reporting.tables.common import BEST_PROBE, NONE, cell, format_ci, mark
from utils.reporting.tables.reported import BINARY

CLASSIFIED, SEGMENTED = "accuracy", "dice"
BASELINES = {"linear probe": BEST_PROBE, "1-NN": "1-NN", "majority": "majority"}
EPOCHS = ", 30 epochs"  # behind a protocol of `published.csv`: as long as that
FOLDS_OF_CLEANED = "five-fold of the cleaned"  # whose folds S0 drew at random
PRETRAINED = ("s1", "s3", "s4")  # sources all of whose networks were; S0's backbones as well


def reported_results(evidence: Evidence) -> pd.DataFrame:
    """A row a network and protocol that a project reported: its result, ours under the same protocol, ours by patient,
    what is lost between the two, and the baselines on both."""
    return pd.DataFrame([_row(evidence, *key) for key in _reported()])


def not_run(evidence: Evidence) -> pd.DataFrame:
    """The reported results that have no counterpart here: why, and the command that would give it."""
    rows = []
    for source, model, dataset, protocol in _reported():
        if _ours(evidence, source, model, dataset, protocol):
            continue
        row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
        rows.append(row | _why(source, model, dataset, protocol))
    return pd.DataFrame(rows)


def recall_by_class(evidence: Evidence) -> pd.DataFrame:
    """Recall of each class where a project reported it or we have the same run: reported / ours / ours by patient."""
    rows = []
    for source, model, dataset, protocol in _reported():
        reported = published(source, model, dataset, protocol).get("recall_by_class", {})
        same, patient = _ours(evidence, source, model, dataset, protocol), _by_patient(evidence, source, model, dataset)
        if not (reported or same) or protocol.endswith(BINARY) or dataset.startswith("brats"):
            continue
        classes = list(same["per_class"] if same else reported)
        rows.append(
            {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
            | {name: _three(name, reported, same, patient) for name in classes}
        )
    return pd.DataFrame(rows).fillna(NONE)


def _reported() -> list[tuple[str, str, str, str]]:
    """Source, network, data set and protocol of every result, in the order of `published.csv`."""
    columns = ["source", "model", "dataset", "protocol"]
    return list(published_table()[columns].drop_duplicates().itertuples(index=False, name=None))


def _row(evidence: Evidence, source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    reported = published(source, model, dataset, protocol)
    metric = SEGMENTED if SEGMENTED in reported else CLASSIFIED
    same, patient = _ours(evidence, source, model, dataset, protocol), _by_patient(evidence, source, model, dataset)
    row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol, "metric": metric}
    row |= {"reported %": f"{100 * reported[metric]:.1f}", "ours, same split %": cell(same, metric)}
    if protocol == "patient":
        same, patient = None, same
        row |= {"ours, same split %": cell(patient, metric)}
    row |= {"ours, by patient %": cell(patient, metric)}
    lost = same and patient and 100 * (patient["metrics"][metric]["value"] - same["metrics"][metric]["value"])
    row["difference, points"] = f"{lost:+.1f}" if lost else NONE
    for column, name in BASELINES.items():
        both = [_baseline(evidence, name, dataset, protocol, by_patient) for by_patient in (False, True)]
        row[f"{column}, both %"] = " / ".join(cell(record) for record in both) if metric == CLASSIFIED else NONE
    shown = same or patient
    row["epochs, pixels"] = f"{shown['training']['epochs']}, {shown['run']['image_size']}" if shown else NONE
    return row


def _three(name: str, reported: dict, same: dict | None, patient: dict | None) -> str:
    first = f"{100 * reported[name]:.1f}" if name in reported else NONE
    ours = [format_ci(r["per_class"][name]["recall"]) + mark(r) if r else NONE for r in (same, patient)]
    return " / ".join([first, *ours])


def _question(protocol: str) -> dict[str, object]:
    """Split and target of a protocol of `published.csv`."""
    split = protocol.removesuffix(BINARY).removesuffix(EPOCHS)
    return {"split": split, "target": "tumour" if protocol.endswith(BINARY) else "label"}


def _ours(evidence: Evidence, source: str, model: str, dataset: str, protocol: str) -> dict | None:
    return _largest(evidence.records, model, dataset, recipe=source, **_question(protocol))


def _by_patient(evidence: Evidence, source: str, model: str, dataset: str) -> dict | None:
    """All patient folds together, or the first where the others are missing."""
    of = {"recipe": source, "split": "patient", "target": "label"}
    return _largest(evidence.records, model, dataset, **of, fold=None) or _largest(
        evidence.records, model, dataset, **of, fold=0
    )


def _baseline(evidence: Evidence, name: str, dataset: str, protocol: str, by_patient: bool) -> dict | None:
    of = _question(protocol) | ({"split": "patient", "fold": None} if by_patient else {})
    return _largest(evidence.classifiers, name, dataset, **of)


def _largest(records: Sequence[dict], model: str, dataset: str, **wanted: object) -> dict | None:
    """The run with the largest images; of several seeds the first."""
    wanted = {"model": model, "dataset": dataset, "view": "stored", "fold": 0} | wanted
    found = [r for r in records if all(({"target": "label"} | r["run"]).get(k) == v for k, v in wanted.items())]
    return max(found, key=lambda r: (r["run"]["image_size"], -r["run"]["seed"]), default=None)


def _why(source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    reason = next(project.missing for project in PROJECTS if project.source == source) or "not run yet"
    if protocol == FOLDS_OF_CLEANED:
        return {"why": "no such split here: a patient would be on both sides", "command": NONE}
    pretrained = source in PRETRAINED or (source == "s0" and model != "MultiTaskUNet")
    run = {"dataset": dataset, "model": model, "recipe": source} | _question(protocol)
    run |= {"pretrained": True, "image_size": 224} if pretrained else {}
    run |= {"n_filters": 16} if dataset.startswith("brats") else {}
    run = {name: value for name, value in run.items() if (name, value) != ("target", "label")}
    row = Row(group="", run=run, epochs=30 * protocol.endswith(EPOCHS))
    return {"why": reason, "command": f"`python {' '.join(row.command())}`"}
