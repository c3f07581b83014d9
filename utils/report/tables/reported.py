"""What the five projects reported, beside our runs on the same split and by patient, and the baselines."""

import pandas as pd

from datasets.labels import CLASS_TARGETS
from models import BACKBONES
from utils.recipes.projects import PROJECTS, Project
from utils.recipes.published import published, published_table
from utils.report.records import Evidence
from utils.report.tables.common import (
    BEST_PROBE,
    NONE,
    cell,
    classifiers,
    find_run,
    format_ci,
    matching,
    seconds_of_one,
    split_words,
)
from utils.report.tables.transfer import QUESTIONS, trained
from utils.run import FULL_SIZE

BASELINES = {"linear probe": BEST_PROBE, "1-NN": "1-NN", "majority": "majority"}
METRICS = {  # column → metric of a run and of `published.csv`; the first is also shown by patient
    "accuracy %": "accuracy",
    "top-5 accuracy %": "top5_accuracy",
    "macro precision %": "macro_precision",
    "macro recall %": "macro_recall",
    "macro F2 %": "macro_f2",
    "macro AUC %": "macro_auc",
}
BINARY = ", binary"  # behind a protocol of `published.csv`: tumour or none was asked
EPOCHS, LONGER = ", 30 epochs", 30  # behind a protocol of `published.csv`: trained so long
FOLDS_OF_CLEANED = "five-fold of the cleaned"  # S0's folds, drawn at random, which no protocol here repeats
FROM_SCRATCH = "s2"  # the one project that pretrained nothing


def project_rows(evidence: Evidence) -> pd.DataFrame:
    """The table of the README: one row a project. Who, what, on which data; reported; ours on the same split, ours by
    patient, and the baselines on both."""
    return pd.DataFrame([_project(project, evidence.runs) for project in PROJECTS])


def _project(project: Project, runs: pd.DataFrame) -> dict[str, str]:
    name = f"[{project.title}]({project.url})" if project.url else project.title
    reported = published(project.source, project.model, project.dataset, project.protocol)
    of = {"dataset": project.dataset, "model": project.model, "recipe": project.recipe, "image_size": FULL_SIZE}
    same, ours, by_patient = f"{NONE} ({project.missing})", None, NONE
    if not project.missing:
        same = cell(find_run(runs, **of, split=project.protocol), project.metric)
        ours = _all_folds_or_first(runs, **of)
    if ours is not None:
        by_patient = f"{cell(ours, project.metric)}, {split_words(ours, compared_with=project.protocol)}"
    row = {
        "project": f"{project.source.upper()}: {name}, {project.authors}; licence: {project.licence}",
        "task and data": f"{project.task}; {project.data}",
        "reported %": f"{project.model} {100 * reported[project.metric]:.1f}",
        "ours, same split": same,
        "ours, by patient": by_patient,
    }
    for column in ("linear probe", "1-NN"):
        of = {"dataset": project.dataset, "title": BASELINES[column]}
        both = find_run(runs, **of, split=project.protocol), find_run(runs, **of, split="patient", fold=_fold(ours))
        row[f"{column}, both"] = " / ".join(cell(one, project.metric) for one in both)
    return row


def _all_folds_or_first(runs: pd.DataFrame, **of: object) -> pd.Series | None:
    """The run over all patient folds, or that of fold 0 where the others are missing."""
    whole = find_run(runs, **of, split="patient", fold=None)
    return find_run(runs, **of, split="patient", fold=0) if whole is None else whole


def _fold(run: pd.Series | None) -> int | None:
    return None if run is None or pd.isna(run.fold) else run.fold


def reported_results(evidence: Evidence) -> pd.DataFrame:
    """A row a network and protocol that a project reported: its result, ours under the same protocol, ours by patient,
    the difference of these two, and the baselines on both, by patient on the folds of our run. A difference is taken
    between runs of one length of training and one size of images only ("epochs, pixels" names both where they differ),
    and not to a cleaned set, which lacks images that patient folds have.
    """
    return pd.DataFrame([_reported(evidence.runs, *key) for key in _every()])


def _every() -> list[tuple[str, str, str, str]]:
    """Source, network, data set and protocol of every result, in the order of `published.csv`."""
    columns = ["source", "model", "dataset", "protocol"]
    return list(published_table()[columns].drop_duplicates().itertuples(index=False, name=None))


def _reported(runs: pd.DataFrame, source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    reported = published(source, model, dataset, protocol)
    metric = "dice" if "dice" in reported else "accuracy"
    same, patient = _both(runs, source, model, dataset, protocol)
    by_patient = NONE if patient is None else f"{cell(patient, metric)}, {split_words(patient, compared_with=protocol)}"
    ours = [run for run in (same, patient) if run is not None]
    lengths = list(dict.fromkeys(f"{run.epochs}, {run.image_size}" for run in ours))
    row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol, "metric": metric}
    row |= {"reported %": f"{100 * reported[metric]:.1f}", "ours, same split %": cell(same, metric)}
    row |= {"ours, by patient %": by_patient, "difference, points": NONE, "epochs, pixels": " / ".join(lengths) or NONE}
    if len(ours) == 2 and same.id != patient.id and len(lengths) == 1 and protocol != "cleaned":
        row["difference, points"] = f"{100 * (patient[metric] - same[metric]):+.1f}"
    for column, title in BASELINES.items():
        of = {"title": title, "dataset": dataset, **_question(protocol)}
        both = _largest(runs, **of), _largest(runs, **of | {"split": "patient", "fold": _fold(patient)})
        row[f"{column}, both %"] = " / ".join(map(cell, both)) if metric == "accuracy" else NONE
    return row


def _question(protocol: str) -> dict[str, str]:
    """Split and target of a protocol of `published.csv`."""
    split = protocol.removesuffix(BINARY).removesuffix(EPOCHS)
    return {"split": split, "target": "tumour" if protocol.endswith(BINARY) else "label"}


def _largest(runs: pd.DataFrame, **wanted: object) -> pd.Series | None:
    """The run on the largest images; of several seeds the first."""
    found = matching(runs, **{"view": "stored", "fold": 0} | wanted)
    found = found.sort_values(["image_size", "seed"], ascending=[False, True], kind="stable")
    return None if found.empty else found.iloc[0]


def _both(
    runs: pd.DataFrame, source: str, model: str, dataset: str, protocol: str
) -> tuple[pd.Series | None, pd.Series | None]:
    """Our run under the protocol, and by patient: all folds together, or the first where the others are missing. Where
    the project split by patient itself, the two are one."""
    of = {"model": model, "dataset": dataset, "recipe": source, **_question(protocol)}
    long_enough = runs[runs.epochs.fillna(0) >= LONGER] if protocol.endswith(EPOCHS) else runs
    whole, first = (_largest(runs, **of | {"split": "patient", "fold": fold}) for fold in (None, 0))
    patient = first if whole is None else whole
    return (patient if protocol == "patient" else _largest(long_enough, **of)), patient


def not_run(evidence: Evidence) -> pd.DataFrame:
    """The reported results without a run under the same protocol here: why, and the command that would make one."""
    rows = []
    for source, model, dataset, protocol in _every():
        if _both(evidence.runs, source, model, dataset, protocol)[0] is None:
            row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
            rows.append(row | _why(evidence.runs, source, model, dataset, protocol))
    return pd.DataFrame(rows)


def _why(runs: pd.DataFrame, source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    if protocol == FOLDS_OF_CLEANED:
        return {"why": "no split here draws its folds without regard to patients", "command": NONE}
    pretrained = source != FROM_SCRATCH and model in BACKBONES
    masks, asked = dataset.startswith("brats"), _question(protocol)
    chapter = "3_transfer_learning" if pretrained else "5_segmentation" if masks else "2_classification"
    given = {"dataset": dataset, "split": asked["split"], "backbone" if pretrained else "model": model}
    given |= {"recipe": source, "seed": 0, "image_size": 224 if pretrained else FULL_SIZE, "quick": "false"}
    given |= {"n_filters": 16} if masks else {}
    given |= {"target": asked["target"]} if asked["target"] != "label" else {}
    given |= {"fold": 0} if asked["split"] == "patient" else {}
    given |= {"weights": "imagenet", "trials": 0} if pretrained else {}
    given |= {"epochs": LONGER} if protocol.endswith(EPOCHS) else {}
    command = " ".join([f"notebooks/{chapter}.ipynb", *(f"-p {name} {value}" for name, value in given.items())])
    why = "computing time"
    if not ((runs.dataset == dataset) | (runs.test_on == dataset)).any():
        why = f"the files of `{dataset}` were not at hand"
    elif pretrained and matching(runs, model=model, pretrained=True).empty:
        why = f"ImageNet weights of {model} were not at hand"
    return {"why": why, "command": f"`python -m utils.headless {command}`"}


def recall_by_class(evidence: Evidence) -> pd.DataFrame:
    """Recall of each class where a project reported it or we have the same run: reported / ours / ours by patient."""
    recall = evidence.metrics[evidence.metrics.metric == "recall"]
    rows = []
    for source, model, dataset, protocol in _every():
        reported = published(source, model, dataset, protocol).get("recall_by_class", {})
        same, patient = _both(evidence.runs, source, model, dataset, protocol)
        if not (reported or same is not None) or protocol.endswith(BINARY) or dataset.startswith("brats"):
            continue
        ours = [recall[recall.id == (None if run is None else run.id)].set_index("class") for run in (same, patient)]
        row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
        for name in reported if same is None else ours[0].index.drop("", errors="ignore"):
            first = f"{100 * reported[name]:.1f}" if name in reported else NONE
            cells = [format_ci(one.loc[name]) if name in one.index else NONE for one in ours]
            row[name] = " / ".join([first, *cells])
        rows.append(row)
    return pd.DataFrame(rows).fillna(NONE)


def reported_runs(evidence: Evidence, source: str) -> pd.DataFrame:
    """One row a network and question: what `source` reported and what its recipe gives here, on its own split, and by
    patient or group. What was not run says why.

    Below stands what else has a run: other networks by that recipe, on its data or on others, and the baselines.
    """
    table, ours = published_table(), of_source(evidence, source)
    mine = next(project for project in PROJECTS if project.source == source)
    reported = table[(table.source == source) & (table.dataset == mine.dataset)]
    splits = {_question(protocol)["split"] for protocol in reported.protocol}
    keys = [
        (model, mine.dataset, *_question(protocol).values())
        for model, protocol in reported[["model", "protocol"]].drop_duplicates().itertuples(index=False)
    ]
    others = set(ours[["model", "dataset", "split", "target"]].itertuples(index=False, name=None)) - set(keys)
    others = sorted(key for key in others if key[2] in splits)
    rows = [_of_source(ours, *key, source, mine.missing) for key in keys]
    rows += [_of_source(ours, *key, source, "") for key in others]
    baselines = classifiers(evidence.runs)
    for dataset in dict.fromkeys([mine.dataset, *(key[1] for key in others)]):
        for key in ((dataset, split, target) for target in CLASS_TARGETS for split in sorted(splits)):
            known = [title for title in BASELINES.values() if _most_images(baselines, title, *key) is not None]
            rows += [_of_source(baselines, title, *key, "", "") for title in known]
    shown = pd.DataFrame(rows)
    return shown.loc[:, (shown != NONE).any()]  # no column for what nobody reported and nobody ran


def of_source(evidence: Evidence, source: str) -> pd.DataFrame:
    """The networks trained by the recipe of `source`."""
    return matching(trained(evidence.runs), recipe=source)


def _most_images(runs: pd.DataFrame, title: str, dataset: str, split: str, target: str) -> pd.Series | None:
    """The run on most test images, all folds before one; pretrained before from scratch."""
    found = matching(runs, title=title, dataset=dataset, split=split, target=target, view="stored")
    found = found.assign(start=found.pretrained.eq(True)).sort_values(["images", "start"], kind="stable")
    last = found[(found.images == found.images.max())]
    last = last[last.start == last.start.max()]
    return None if last.empty else last.iloc[0]


def _of_source(
    runs: pd.DataFrame, title: str, dataset: str, split: str, target: str, source: str, missing: str
) -> dict[str, str]:
    """A row of `reported_runs`; `source` "" stands for a baseline."""
    same = _most_images(runs, title, dataset, split, target)
    protocol = split + BINARY if target == "tumour" else split
    reported = (published(source, title, dataset, protocol) if source else None) or {}
    row = {"network": title if reported or not source else f"{title} (not in the report)", "data set": dataset}
    row |= {"asked": QUESTIONS[target], "split": split if same is None else split_words(same)}
    for column, metric in METRICS.items():
        row[f"{column}: reported"] = f"{100 * reported[metric]:.1f}" if metric in reported else NONE
        ranked = title not in ("1-NN", "majority") or not metric.startswith("top")  # which rank no second class
        row[f"{column}: ours"] = cell(same, metric) if ranked else NONE
    by_group = None if split == "patient" else _most_images(runs, title, dataset, "patient", target)
    row["accuracy %: ours, by patient or group"] = cell(by_group)
    row["accuracy %: ours, a decision a patient"] = cell(same, "by_patient.accuracy")
    trained_here = same is not None and pd.notna(same.epochs)
    loss, minutes = reported.get("val_loss"), reported.get("train_seconds")
    for column, value, theirs in (
        ("validation loss", same.val_loss if trained_here else None, loss),
        ("minutes of training", seconds_of_one(same) / 60 if trained_here else None, minutes and minutes / 60),
    ):
        row[f"{column}: reported"], row[f"{column}: ours"] = (
            NONE if pd.isna(v) else f"{v:.3g}" for v in (theirs, value)
        )
    row["epochs, pixels"] = f"{same.epochs}, {same.image_size}" if trained_here else NONE
    row["remark"] = NONE if same is not None or not reported else f"not run here{missing and f': {missing}'}"
    return row
