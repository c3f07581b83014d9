"""Every result that the five projects reported, beside ours under the same protocol and by patient; recall by class."""

from collections.abc import Sequence

import pandas as pd

from models import BACKBONES
from utils.recipes.published import published, published_table
from utils.report.ledger.entries import obstacle
from utils.report.ledger.rows import Row
from utils.report.records import Evidence
from utils.report.tables.common import (
    BEST_PROBE,
    CLEANED,
    NONE,
    beside,
    cell,
    format_ci,
    mark,
    same_folds,
    split_words,
)
from utils.report.tables.reported import BINARY

CLASSIFIED, SEGMENTED = "accuracy", "dice"
BASELINES = {"linear probe": BEST_PROBE, "1-NN": "1-NN", "majority": "majority"}
EPOCHS, LONGER = ", 30 epochs", 30  # behind a protocol of `published.csv`: trained so long
FOLDS_OF_CLEANED = "five-fold of the cleaned"  # S0's folds, drawn at random, which no protocol here repeats
FROM_SCRATCH = "s2"  # the one project that pretrained nothing


def reported_results(evidence: Evidence) -> pd.DataFrame:
    """A row a network and protocol that a project reported: its result, ours under the same protocol, ours by patient,
    the difference of these two, and the baselines on both, by patient on the folds of our run. A difference is taken
    between runs of one length of training and one size of images only ("epochs, pixels" names both where they differ),
    and not to a cleaned set, which lacks images that patient folds have.
    Neither a difference nor a baseline is shown of a run on earlier folds and another on the present ones.
    """
    return pd.DataFrame([_row(evidence, *key) for key in _reported()])


def not_run(evidence: Evidence) -> pd.DataFrame:
    """The reported results without a run under the same protocol here: why, and the command that would make one."""
    rows = []
    for source, model, dataset, protocol in _reported():
        if _ours(evidence, source, model, dataset, protocol):
            continue
        row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
        rows.append(row | _why(evidence, source, model, dataset, protocol))
    return pd.DataFrame(rows)


def recall_by_class(evidence: Evidence) -> pd.DataFrame:
    """Recall of each class where a project reported it or we have the same run: reported / ours / ours by patient."""
    rows = []
    for source, model, dataset, protocol in _reported():
        reported = published(source, model, dataset, protocol).get("recall_by_class", {})
        same, patient = _both(evidence, source, model, dataset, protocol)
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
    same, patient = _both(evidence, source, model, dataset, protocol)
    row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol, "metric": metric}
    row |= {"reported %": f"{100 * reported[metric]:.1f}", "ours, same split %": cell(same, metric)}
    by_patient = f"{cell(patient, metric)}, {split_words(patient['run'], beside=protocol)}" if patient else NONE
    lengths = list(dict.fromkeys(_length(record) for record in (same, patient) if record))
    comparable = same and patient and same is not patient and len(lengths) == 1 and same_folds(same, patient)
    comparable = comparable and protocol != CLEANED
    row |= {"ours, by patient %": by_patient, "difference, points": NONE, "epochs, pixels": " / ".join(lengths) or NONE}
    if comparable:
        values = [record["metrics"][metric]["value"] for record in (patient, same)]
        row["difference, points"] = f"{100 * (values[0] - values[1]):+.1f}{mark(patient)}"
    fold = patient["run"]["fold"] if patient else None
    for column, name in BASELINES.items():
        both = {"same": {}, "patient": {"split": "patient", "fold": fold}}
        found = [_baseline(evidence, name, dataset, protocol, **of) for of in both.values()]
        cells = [cell(beside(ours, record)) for ours, record in zip((same, patient), found, strict=True)]
        row[f"{column}, both %"] = " / ".join(cells) if metric == CLASSIFIED else NONE
    return row


def _length(record: dict) -> str:
    return f"{record['training']['epochs']}, {record['run']['image_size']}"


def _three(name: str, reported: dict, same: dict | None, patient: dict | None) -> str:
    first = f"{100 * reported[name]:.1f}" if name in reported else NONE
    ours = [format_ci(r["per_class"][name]["recall"]) + mark(r) if r else NONE for r in (same, patient)]
    return " / ".join([first, *ours])


def _question(protocol: str) -> dict[str, object]:
    """Split and target of a protocol of `published.csv`."""
    split = protocol.removesuffix(BINARY).removesuffix(EPOCHS)
    return {"split": split, "target": "tumour" if protocol.endswith(BINARY) else "label"}


def _ours(evidence: Evidence, source: str, model: str, dataset: str, protocol: str) -> dict | None:
    records = evidence.records
    if protocol.endswith(EPOCHS):
        records = [r for r in records if r["training"] and r["training"]["epochs"] >= LONGER]
    return _largest(records, model, dataset, recipe=source, **_question(protocol))


def _both(evidence: Evidence, source: str, model: str, dataset: str, protocol: str) -> tuple[dict | None, dict | None]:
    """Our run under the protocol, and by patient: all folds together, or the first where the others are missing. Where
    the project split by patient itself, the two are one."""
    same = _ours(evidence, source, model, dataset, protocol)
    of = {"recipe": source} | _question(protocol) | {"split": "patient"}
    folds = (_largest(evidence.records, model, dataset, **of, fold=fold) for fold in (None, 0))
    patient = next((record for record in folds if record), None)
    return (patient if protocol == "patient" else same), patient


def _baseline(evidence: Evidence, name: str, dataset: str, protocol: str, **of: object) -> dict | None:
    return _largest(evidence.classifiers, name, dataset, **_question(protocol) | of)


def _largest(records: Sequence[dict], model: str, dataset: str, **wanted: object) -> dict | None:
    """The run with the largest images; of several seeds the first."""
    wanted = {"model": model, "dataset": dataset, "view": "stored", "fold": 0} | wanted
    found = [r for r in records if all(({"target": "label"} | r["run"]).get(k) == v for k, v in wanted.items())]
    return max(found, key=lambda r: (r["run"]["image_size"], -r["run"]["seed"]), default=None)


def _why(evidence: Evidence, source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    if protocol == FOLDS_OF_CLEANED:
        return {"why": "no split here draws its folds without regard to patients", "command": NONE}
    pretrained = source != FROM_SCRATCH and model in BACKBONES
    run = {"dataset": dataset, "model": model, "recipe": source} | _question(protocol)
    run |= {"pretrained": True, "image_size": 224} if pretrained else {}
    run |= {"n_filters": 16} if dataset.startswith("brats") else {}
    run = {name: value for name, value in run.items() if (name, value) != ("target", "label")}
    row = Row(group="", run=run, epochs=LONGER * protocol.endswith(EPOCHS))
    return {"why": obstacle(row, evidence.records), "command": f"`python {' '.join(row.command())}`"}
