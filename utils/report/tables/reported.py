"""What the five projects reported, beside our runs on the same split and by patient, and the baselines."""

import pandas as pd

from utils.recipes import get_recipe
from utils.recipes.published import PROJECTS, published, published_table
from utils.report.records import Evidence
from utils.report.tables import common as t
from utils.report.tables.common import NONE, cell, format_ci, matching
from utils.run import FULL_SIZE

BASELINES = {"linear probe": t.BEST_PROBE, "1-NN": "1-NN", "majority": "majority"}
BINARY = ", binary"  # behind a protocol of `published.csv`: tumour or none was asked
EPOCHS, LONGER = ", 30 epochs", 30  # behind a protocol of `published.csv`: trained so long
# The fold on which a recipe is compared with itself: of a run on another split, most validation images lie in fold 0,
# since both are drawn from the names of the groups, so that its training held few relatives of that fold's images.
APART = 1
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
    """Our run under the protocol, and by patient: all folds together, or as many as there are. Where the project split
    by patient itself, the two are one."""
    of = {"model": model, "dataset": dataset, "recipe": source, **_question(protocol)}
    long_enough = runs[runs.epochs.fillna(0) >= LONGER] if protocol.endswith(EPOCHS) else runs
    whole, first = (_largest(runs, **of | {"split": "patient", "fold": fold}) for fold in (None, 0))
    patient = first if whole is None else whole
    return (patient if protocol == "patient" else _largest(long_enough, **of)), patient


def project_rows(evidence: Evidence) -> pd.DataFrame:
    """The table of the README, a row a project: the accuracy reported, ours on the same split, and ours by patient on
    the same test images, with the difference; of a project whose network was not run, a linear probe of its images, and
    its recipe on the nearest network."""
    rows, full = [], evidence.runs[evidence.runs.baseline | (evidence.runs.image_size == FULL_SIZE)]
    for one in PROJECTS:
        key, same, patient = (one.model, one.dataset, one.protocol), [], []
        of = {"dataset": one.dataset, **_question(one.protocol)}
        if one.missing:
            same, method, of = [f"not run: {one.missing}"], "linear probe", of | {"title": BASELINES["linear probe"]}
            ours, folds = _largest(full, **of), _largest(full, **of | {"split": "patient", "fold": None})
            for _, run in evidence.runs[evidence.runs.id.isin(one.nearest.split())].iterrows():
                length = f"{run.epochs} of {get_recipe(run.recipe, run.model).epochs} epochs"
                same.append(f"its recipe on `{run.dataset}`, {run.tested}, {length}: {run.model} {cell(run)}")
                of_run = {name: run[name] for name in ("model", "recipe", "dataset", "target", "image_size", "epochs")}
                fold = _largest(evidence.runs, **of_run, split="patient", fold=APART)
                if run.split != "patient" and fold is not None:
                    before, after = (evidence.predictions(which.id) for which in (run, fold))
                    after = after[after.path.isin(before.path)]
                    found = t.difference(after, before[before.path.isin(after.path)])
                    of_fold = f"{100 * found.after:.1f}, {format_ci(found)} points"
                    patient.append(f"its recipe, of fold {APART} alone ({len(after)} images): {of_fold}")
        else:
            method, (ours, folds) = one.model, _both(full, one.recipe, *key)
            whole = _largest(full, **of | {"model": one.model, "recipe": f"{one.recipe}-own-cut"})
            same = [] if whole is None else [f"{cell(whole)}, trained on all that its authors trained on"]
        if ours is not None and folds is not None:
            same.append(f"{method} {cell(ours)}" if one.missing else cell(ours))
            same[-1] += ", validation held out" if len(same) > 1 and not one.missing else ""
            found, tested = t.paired(evidence, ours, folds), evidence.predictions(ours.id).path
            scans = t.of_scans(evidence.predictions(folds.id), tested)
            of_all = f"{100 * found.after:.1f}, {format_ci(found)} points; whole scans {100 * scans['value']:.1f}"
            patient.append(f"{method} {of_all}" if one.missing else of_all)
        name = f"[{one.title}]({one.url})" if one.url else one.title
        rows.append(
            {
                "project": f"{one.source.upper()}: {name}, {one.authors}; {one.data}; licence: {one.licence}",
                "reported %": f"{one.model} {100 * published(one.source, *key)[one.metric]:.1f}",
                "ours, same split %": "; ".join(same) or NONE,
                "the same images by patient %": "; ".join(patient) or NONE,
            }
        )
    return pd.DataFrame(rows)


def reported_results(evidence: Evidence) -> pd.DataFrame:
    """A row a network and protocol that a project reported: its result, ours under the same protocol, ours by patient,
    the difference of these two, and the baselines on both. A difference is taken between runs of as many epochs and
    pixels only, and not to a cleaned set, which lacks images that patient folds have."""
    rows, runs, key = [], t.some_folds(evidence, evidence.runs), ["source", "model", "dataset", "protocol"]
    for source, model, dataset, protocol in published_table()[key].drop_duplicates().itertuples(index=False):
        reported = published(source, model, dataset, protocol)
        same, patient = _both(runs, source, model, dataset, protocol)
        metric = "dice" if "dice" in reported else "accuracy"
        lengths = list(dict.fromkeys(f"{run.epochs}, {run.image_size}" for run in (same, patient) if run is not None))
        row = {"project": source.upper(), "network": model, "data set": dataset, "split": protocol}
        row |= {"metric": metric, "reported %": f"{100 * reported[metric]:.1f}"}
        row |= {"ours, same split %": cell(same, metric), "ours, by patient %": NONE}
        row |= {"difference, points": NONE, "epochs, pixels": " / ".join(lengths) or NONE}
        if patient is not None:
            not_cleaned = ", not cleaned" if protocol == "cleaned" else ""
            row["ours, by patient %"] = f"{cell(patient, metric)}, {patient.tested}{not_cleaned}"
        two = same is not None and patient is not None and same.id != patient.id
        if two and len(lengths) == 1 and protocol != "cleaned":
            row["difference, points"] = f"{100 * (patient[metric] - same[metric]):+.1f}"
        fold = 0 if patient is not None and patient.tested == t.FOLD_0 else None  # that of our run, or all of them
        for column, title in BASELINES.items():
            of = {"title": title, "dataset": dataset, **_question(protocol)}
            both = _largest(evidence.runs, **of), _largest(evidence.runs, **of | {"split": "patient", "fold": fold})
            text = " / ".join(cell(one, metric) for one in both)
            row[f"{column}, both %"] = text if metric == "accuracy" else NONE
        rows.append(row)
    return pd.DataFrame(rows)


TABLES = {
    "projects": project_rows,
    "reported": reported_results,
}
