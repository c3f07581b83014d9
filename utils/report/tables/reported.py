"""What the five projects reported, beside our runs on the same split and by patient, and the baselines."""

import pandas as pd

from datasets.labels import CLASS_TARGETS
from models import BACKBONES
from utils.recipes.published import PROJECTS, published, published_table
from utils.report.records import Evidence
from utils.report.tables.common import BEST_PROBE, NONE, cell, classifiers, format_ci, matching, seconds_of_one
from utils.report.tables.transfer import QUESTIONS, trained
from utils.run import FULL_SIZE

BASELINES = {"linear probe": BEST_PROBE, "1-NN": "1-NN", "majority": "majority"}
METRICS = {"accuracy": "accuracy", "top-5 accuracy": "top5_accuracy", "macro precision": "macro_precision"}
METRICS |= {"macro recall": "macro_recall", "macro F2": "macro_f2", "macro AUC": "macro_auc"}  # title → name
BINARY = ", binary"  # behind a protocol of `published.csv`: tumour or none was asked
EPOCHS, LONGER = ", 30 epochs", 30  # behind a protocol of `published.csv`: trained so long
FOLDS_OF_CLEANED = "five-fold of the cleaned"  # S0's folds, drawn at random, which no protocol here repeats
KEY = ["source", "model", "dataset", "protocol"]
Run = pd.Series | None


def _question(protocol: str) -> dict[str, str]:
    """Split and target of a protocol of `published.csv`."""
    split = protocol.removesuffix(BINARY).removesuffix(EPOCHS)
    return {"split": split, "target": "tumour" if protocol.endswith(BINARY) else "label"}


def _largest(runs: pd.DataFrame, **wanted: object) -> Run:
    """The run on the largest images; of several seeds the first."""
    found = matching(runs, **{"view": "stored", "fold": 0} | wanted)
    found = found.sort_values(["image_size", "seed"], ascending=[False, True], kind="stable")
    return None if found.empty else found.iloc[0]


def _both(runs: pd.DataFrame, source: str, model: str, dataset: str, protocol: str) -> tuple[Run, Run]:
    """Our run under the protocol, and by patient: all folds together, or the first where the others are missing. Where
    the project split by patient itself, the two are one."""
    of = {"model": model, "dataset": dataset, "recipe": source, **_question(protocol)}
    long_enough = runs[runs.epochs.fillna(0) >= LONGER] if protocol.endswith(EPOCHS) else runs
    whole, first = (_largest(runs, **of | {"split": "patient", "fold": fold}) for fold in (None, 0))
    patient = first if whole is None else whole
    return (patient if protocol == "patient" else _largest(long_enough, **of)), patient


def _by_patient(run: Run, metric: str, protocol: str) -> str:
    """The cell of our run by patient, its folds, and beside a cleaned set that it is not cleaned."""
    if run is None:
        return NONE
    text = f"{cell(run, metric)}, {run.tested}"
    return f"{text}, not cleaned" if protocol == "cleaned" else text


def _baselines(runs: pd.DataFrame, title: str, dataset: str, protocol: str, patient: Run, metric: str) -> str:
    """A baseline under the protocol, and by patient on the fold of our run, or on all of them."""
    of = {"title": title, "dataset": dataset, **_question(protocol)}
    fold = None if patient is None or pd.isna(patient.fold) else patient.fold
    both = _largest(runs, **of), _largest(runs, **of | {"split": "patient", "fold": fold})
    return " / ".join(cell(one, metric) for one in both)


def project_rows(evidence: Evidence) -> pd.DataFrame:
    """The table of the README, a row a project: who, what, on which data; reported, ours on the same split and by
    patient, and the baselines on both."""
    rows, full = [], evidence.runs[evidence.runs.baseline | (evidence.runs.image_size == FULL_SIZE)]
    for one in PROJECTS:
        key = (one.model, one.dataset, one.protocol)
        same, patient = (None, None) if one.missing else _both(full, one.recipe, *key)
        name = f"[{one.title}]({one.url})" if one.url else one.title
        of = (one.dataset, one.protocol, patient, one.metric)
        row = {
            "project": f"{one.source.upper()}: {name}, {one.authors}; licence: {one.licence}",
            "task and data": f"{one.task}; {one.data}",
            "reported %": f"{one.model} {100 * published(one.source, *key)[one.metric]:.1f}",
            "ours, same split": f"{NONE} ({one.missing})" if one.missing else cell(same, one.metric),
            "ours, by patient": _by_patient(patient, one.metric, one.protocol),
        }
        rows.append(row | {f"{n}, both": _baselines(full, BASELINES[n], *of) for n in ("linear probe", "1-NN")})
    return pd.DataFrame(rows)


def _every(evidence: Evidence) -> list[tuple[list[str], dict, dict[str, str], tuple[Run, Run]]]:
    """Of every reported result: its key, its metrics, the first cells of its row, and our two runs."""
    found = []
    for key in published_table()[KEY].drop_duplicates().to_numpy().tolist():
        named = dict(zip(("project", "network", "data set", "split"), (key[0].upper(), *key[1:]), strict=True))
        found.append((key, published(*key), named, _both(evidence.runs, *key)))
    return found


def reported_results(evidence: Evidence) -> pd.DataFrame:
    """A row a network and protocol that a project reported: its result, ours under the same protocol, ours by patient,
    the difference of these two, and the baselines on both. A difference is taken between runs of as many epochs and
    pixels only, and not to a cleaned set, which lacks images that patient folds have."""
    rows = []
    for (_, _, dataset, protocol), reported, row, (same, patient) in _every(evidence):
        metric = "dice" if "dice" in reported else "accuracy"
        lengths = list(dict.fromkeys(f"{run.epochs}, {run.image_size}" for run in (same, patient) if run is not None))
        row |= {"metric": metric, "reported %": f"{100 * reported[metric]:.1f}"}
        row |= {"ours, same split %": cell(same, metric), "ours, by patient %": _by_patient(patient, metric, protocol)}
        row |= {"difference, points": NONE, "epochs, pixels": " / ".join(lengths) or NONE}
        two = same is not None and patient is not None and same.id != patient.id
        if two and len(lengths) == 1 and protocol != "cleaned":
            row["difference, points"] = f"{100 * (patient[metric] - same[metric]):+.1f}"
        for column, title in BASELINES.items():
            text = _baselines(evidence.runs, title, dataset, protocol, patient, metric)
            row[f"{column}, both %"] = text if metric == "accuracy" else NONE
        rows.append(row)
    return pd.DataFrame(rows)


def not_run(evidence: Evidence) -> pd.DataFrame:
    """The reported results without a run under the same protocol here: why, and the command that would make one."""
    return pd.DataFrame(
        [row | _why(evidence.runs, *key) for key, _, row, (same, _) in _every(evidence) if same is None]
    )


def _why(runs: pd.DataFrame, source: str, model: str, dataset: str, protocol: str) -> dict[str, str]:
    if protocol == FOLDS_OF_CLEANED:
        return {"why": "no split here draws its folds without regard to patients", "command": NONE}
    pretrained = source != "s2" and model in BACKBONES  # S2 alone pretrained nothing
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
    rows = []
    for (_, _, dataset, protocol), reported, row, both in _every(evidence):
        theirs = reported.get("recall_by_class", {})
        if not (theirs or both[0] is not None) or protocol.endswith(BINARY) or dataset.startswith("brats"):
            continue
        ours = [{} if run is None else evidence.record(run.id)["per_class"] for run in both]
        for name in ours[0] or theirs:
            first = f"{100 * theirs[name]:.1f}" if name in theirs else NONE
            row[name] = " / ".join([first, *(format_ci(one[name]["recall"]) if one else NONE for one in ours)])
        rows.append(row)
    return pd.DataFrame(rows).fillna(NONE)


def reported_runs(evidence: Evidence, source: str) -> pd.DataFrame:
    """One row a network and question: what `source` reported and what its recipe gives here, on its own split, and by
    patient or group, or why it was not run; then other networks by that recipe, on any data, and the baselines."""
    table, ours = published_table(), of_source(evidence, source)
    mine = next(project for project in PROJECTS if project.source == source)
    reported = table[(table.source == source) & (table.dataset == mine.dataset)].drop_duplicates(["model", "protocol"])
    keys = [(row.model, mine.dataset, *_question(row.protocol).values()) for row in reported.itertuples()]
    splits = sorted({key[2] for key in keys})
    others = set(ours[["model", "dataset", "split", "target"]].itertuples(index=False, name=None)) - set(keys)
    others = sorted(key for key in others if key[2] in splits)
    known = classifiers(evidence.runs)
    rows = [_of_source(ours, *key, source, mine.missing) for key in keys]
    rows += [_of_source(ours, *key, source, "") for key in others]
    rows += [
        _of_source(known, title, dataset, split, target, "", "")
        for dataset in dict.fromkeys([mine.dataset, *(key[1] for key in others)])
        for target in CLASS_TARGETS
        for split in splits
        for title in BASELINES.values()
        if _most_images(known, title, dataset, split, target) is not None
    ]
    shown = pd.DataFrame(rows)
    return shown.loc[:, (shown != NONE).any()]  # no column for what nobody reported and nobody ran


def of_source(evidence: Evidence, source: str) -> pd.DataFrame:
    """The networks trained by the recipe of `source`."""
    return matching(trained(evidence.runs), recipe=source)


def _most_images(runs: pd.DataFrame, title: str, dataset: str, split: str, target: str) -> Run:
    """The run on most test images, all folds before one; pretrained before from scratch."""
    found = matching(runs, title=title, dataset=dataset, split=split, target=target, view="stored")
    found = found.assign(start=found.pretrained.eq(True))
    found = found.sort_values(["images", "start"], ascending=False, kind="stable")
    return None if found.empty else found.iloc[0]


def _of_source(
    runs: pd.DataFrame, title: str, dataset: str, split: str, target: str, source: str, missing: str
) -> dict[str, str]:
    """A row of `reported_runs`; `source` "" stands for a baseline."""
    ours = _most_images(runs, title, dataset, split, target)
    protocol = split + BINARY if target == "tumour" else split
    reported = (published(source, title, dataset, protocol) if source else None) or {}
    row = {"network": title if reported or not source else f"{title} (not in the report)", "data set": dataset}
    row |= {"asked": QUESTIONS[target], "split": split if ours is None else ours.tested}
    for column, metric in METRICS.items():
        row[f"{column} %: reported"] = f"{100 * reported[metric]:.1f}" if metric in reported else NONE
        ranked = title not in ("1-NN", "majority") or not metric.startswith("top")  # which rank no second class
        row[f"{column} %: ours"] = cell(ours, metric) if ranked else NONE
    by_group = None if split == "patient" else _most_images(runs, title, dataset, "patient", target)
    row["accuracy %: ours, by patient or group"] = cell(by_group)
    row["accuracy %: ours, a decision a patient"] = cell(ours, "by_patient.accuracy")
    known, theirs = ours is not None and pd.notna(ours.epochs), reported.get("train_seconds")
    both = {
        "validation loss": (reported.get("val_loss"), ours.val_loss if known else None),
        "minutes of training": (theirs and theirs / 60, seconds_of_one(ours) / 60 if known else None),
    }
    for column, values in both.items():
        texts = [NONE if pd.isna(value) else f"{value:.3g}" for value in values]
        row |= {f"{column}: reported": texts[0], f"{column}: ours": texts[1]}
    row |= {"epochs, pixels": f"{ours.epochs}, {ours.image_size}" if known else NONE, "remark": NONE}
    if ours is None and reported:
        row["remark"] = f"not run here: {missing}" if missing else "not run here"
    return row
