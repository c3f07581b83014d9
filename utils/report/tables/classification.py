"""Tables of classifiers from scratch, and of what curation found."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from datasets.catalog import HEALTHY
from datasets.reading import read_table
from datasets.splitting import copies_file
from datasets.store import index
from utils.evaluation.classification import too_few
from utils.evaluation.compare import corrected
from utils.evaluation.intervals import grouped_ci, mean_interval
from utils.evaluation.thresholds import UNKNOWN, tumour_or_none
from utils.report.plan import PLAN
from utils.report.records import PROBE, Evidence
from utils.report.tables import common as t
from utils.report.tables.common import ALL_FOLDS, NONE, cell, format_ci, matching

DATASET = "brain-tumor-mri"
INDEPENDENT_HEALTHY = "brain-tumor-44c"  # adds healthy images that no other set has


def leakage(evidence: Evidence) -> pd.DataFrame:
    """A row a data set and method (`title`), trained on the published split and by patient and asked about the same
    images: those that the publisher tests, each of which the patient folds test once, without a known relative in
    training. `images`, `reported` accuracy, `fall`: the `Difference`, corrected for the number of rows; `scan`: the
    accuracy by patient where each image has the answer for its whole scan."""
    runs = t.headline(evidence.runs)
    rows = []
    for (dataset, title), of in runs[runs.title != "majority"].groupby(["dataset", "title"]):
        folds = matching(of, tested=ALL_FOLDS)
        shipped = matching(of, tested="published")
        shipped = shipped[shipped.recipe.isin(folds.recipe)]  # not one that differs in more than the split
        if len(shipped):
            run = shipped.iloc[0]
            row = {"dataset": dataset, "title": title, "images": run.images, "reported": run.reported}
            after, asked = (evidence.predictions(one) for one in (folds.iloc[0].id, run.id))
            row |= {"fall": t.paired(evidence, run, folds.iloc[0]), "scan": t.of_scans(after, asked.path)}
            rows.append(row)
    table = pd.DataFrame(rows, columns=["dataset", "title", "images", "reported", "fall", "scan"])
    return table.assign(fall=corrected(table.fall))


def same_images(evidence: Evidence) -> pd.DataFrame:
    """The same as a table, with the test's p-value and verdict."""
    rows = leakage(evidence)
    return t.show(
        rows.assign(
            before=[one.before for one in rows.fall],
            after=[one.after for one in rows.fall],
            p=t.p_values(rows.fall),
            verdict=[one.verdict for one in rows.fall],
        ),
        "data set = dataset | model = title | test images = images | published split = before% | by patient = after% | "
        "difference, points = fall | p, corrected = p | by patient it is = verdict | by patient, whole scans = scan",
    )


def by_relatives(evidence: Evidence, run: pd.Series) -> pd.DataFrame:
    """Accuracy of a run on the published split, by where the relatives of a test image were: an experiment that its
    validation set makes by itself, since that holds out whole groups of the training folder.

    Returns:
        Index "in training", "in validation alone" and "nowhere"; `images`, and `accuracy` {value, low, high} over
        groups.
    """
    tested, validated = evidence.predictions(run.id), evidence.validation(run.id)
    groups = read_table(index.SPLITS / f"{run.dataset}.csv", needs=["path", "group"]).set_index("path").group
    rest = groups[~groups.index.isin([*tested.path, *validated.path])]
    of_test = tested.path.map(groups)
    where = np.where(of_test.isin(groups[validated.path]), "in validation alone", "nowhere")
    tested = tested.assign(where=np.where(of_test.isin(rest), "in training", where))
    rows = {
        name: {"images": len(of), "accuracy": mean_interval(of.label == of.predicted, of.group)}
        for name, of in tested.groupby("where")
    }
    return pd.DataFrame(rows).T.reindex(["in training", "in validation alone", "nowhere"]).dropna()


def cleaned(evidence: Evidence) -> pd.DataFrame:
    """S0's claim by its two factors: two data sets, raw and cleaned, and both by patient; networks of one size."""
    runs, key = matching(t.classifiers(evidence.runs), target="label", view="stored"), ["dataset", "title"]
    runs = runs[runs.baseline | (runs.image_size == t.STEPS_AT)].drop_duplicates([*key, "tested"])
    runs = runs.assign(text=t.cells(runs)).set_index(key)
    raw, clean, folds = (matching(runs, tested=one) for one in ("published", "cleaned", ALL_FOLDS))
    table = pd.DataFrame({"raw": raw.text, "cleaned by S0's rule": clean.text, "patient folds": folds.text})
    before, after = raw.images.map(str).reindex(table.index, fill_value=NONE), clean.images.map(str)
    table["test images raw / cleaned"] = before + " / " + after
    last = {"1-NN": 2, "majority": 3}  # networks first, then what they have to beat
    order = sorted(clean.index, key=lambda key: [(last.get(one, int(one.startswith(PROBE))), one) for one in key])
    return table.loc[order].fillna(NONE).rename_axis(["data set", "model"]).reset_index()


def external_tests(evidence: Evidence) -> pd.DataFrame:
    """Tumour or none, trained on one set and tested on images that only another has, beside what the patient folds of
    the first promised: by the likeliest class, and at the threshold that validation chose.

    No sensitivity stands alone: where a set adds too few healthy images, the specificity is that of the same training
    on `INDEPENDENT_HEALTHY` (the AUC then ranks tumours of the one set against healthy images of the other), and where
    that was not run, the one at home. What is planned and not run has a row, too.
    """
    every = t.that_name_a_class(evidence.runs)
    chosen = every[(every.split == "external") & (every.model != "majority")]
    rows = [_external_row(evidence, every, run) for _, run in chosen.iterrows()]
    planned = " ".join(pd.read_csv(PLAN, keep_default_na=False).runs).split()
    for missing in (one for one in planned if ".external-" in one and one not in every.index):
        dataset, split, model, recipe, _ = missing.split(".")
        where = f"{dataset} → {split.removeprefix('external-')}"
        rows.append({"trained on → tested on": where, "model": f"{model}, {recipe}", "tumours": "not run here"})
    return pd.DataFrame(rows, dtype=object).fillna(NONE)


def _external_row(evidence: Evidence, every: pd.DataFrame, run: pd.Series) -> dict[str, str]:
    same = ("dataset", "model", "recipe", "seed", "image_size", "view", "target")
    alike = matching(every, **{name: run[name] for name in same})
    tested, folds = (matching(alike, **of) for of in ({"test_on": INDEPENDENT_HEALTHY}, {"split": "patient"}))
    folds = folds[folds.fold.fillna(0) == 0].sort_values("fold", na_position="first")  # fold 0 where not all were run
    home = folds.iloc[0] if len(folds) else None
    images = {name: entry["images"] for name, entry in evidence.record(run.id)["per_class"].items()}
    healthy = images.pop(HEALTHY, 0)
    spared, beside, auc = run, f"{healthy:,}", cell(run, "tumour_auc", percent=False)
    if few := "specificity" in too_few(sum(images.values()), healthy):
        spared, beside, auc = home, "at home", NONE
    if few and len(tested):
        spared = tested.iloc[0]
        sick, fine = (evidence.predictions(one) for one in (run.id, spared.id))
        sick, fine = sick[sick.label != HEALTHY], fine[fine.label == HEALTHY]
        beside = f"{len(fine):,} of {INDEPENDENT_HEALTHY}"
        auc = format_ci(tumour_or_none(pd.concat([sick, fine]), UNKNOWN)["auc"], percent=False)
    found, at_chosen = cell(run, "tumour_or_none.sensitivity"), cell(spared, "tumour_or_none.specificity")
    if spared is home and found != NONE:  # whose threshold is another one
        on_validation = evidence.record(run.id)["tumour_or_none"]["specificity_on_validation"]
        at_chosen = f"{100 * on_validation:.1f} on validation"
    promised = NONE
    if home is not None:
        promised = f"{cell(home, 'tumour_sensitivity')} / {cell(home, 'tumour_specificity')}"
        promised += "" if pd.isna(home.fold) else f" ({t.FOLD_0})"
    name = run.title if run.baseline else f"{run.title}, {run.recipe}"
    return {
        "trained on → tested on": f"{run.dataset} → {run.test_on}",
        "model": name + (f", seed {run.seed}" if run.seed else ""),
        "pixels": run.image_size,
        "tumours": f"{sum(images.values()):,}",
        "healthy images": beside,
        "sensitivity": cell(run, "tumour_sensitivity"),
        "specificity": cell(spared, "tumour_specificity"),
        "AUC": auc,
        "at the validation threshold: sensitivity / specificity": NONE if found == NONE else f"{found} / {at_chosen}",
        "at home, by patient: sensitivity / specificity": promised,
        "AUC at home": cell(home, "tumour_auc", percent=False),
    }


def left_out_sources(evidence: Evidence) -> pd.DataFrame:
    """Tumour or none in the images of a source that nothing was learned from, by which a detector is chosen: at the
    threshold that validation images of the other sources gave, and the AUC, which needs none."""
    runs = matching(evidence.runs, split="source").sort_values(["title", "recipe", "fold"])
    runs = runs.assign(threshold=t.sensitivity_specificity(runs, "tumour_or_none"))
    return t.show(
        runs,
        "method = title | recipe | pixels = image_size | trained = tested | images | AUC = tumour_auc. | "
        "sensitivity = tumour_sensitivity | specificity = tumour_specificity | "
        "at the validation threshold: sensitivity / specificity = threshold",
    )


def results_without_copies(evidence: Evidence) -> pd.DataFrame:
    """A row a result over all patient folds, but the majority's: accuracy and recall of the images without a tumour, on
    all test images and without those that have a copy in another fold."""
    runs = matching(t.that_name_a_class(evidence.runs), dataset=DATASET, tested=ALL_FOLDS, target="label")
    runs = runs[runs.model != "majority"].sort_values("accuracy", ascending=False, kind="stable")
    rows = []
    for _, run in runs.iterrows():
        tested = evidence.predictions(run.id)
        tested = tested[~tested.path.isin(copied(DATASET))]
        right, healthy = tested.label.eq(tested.predicted), tested.label.eq(HEALTHY)
        counts = pd.DataFrame({"images": 1, "right": right, "healthy": healthy, "found": right & healthy}, dtype=int)
        groups = counts.groupby(tested.group).sum().to_numpy()
        trials = {"accuracy": len(groups), "recall": int((groups[:, 2] > 0).sum())}  # groups in which each is counted
        after = grouped_ci(range(len(groups)), lambda drawn, of=groups: _shares(of[drawn]), trials=trials)
        row = {"model": run.title, "recipe": t.recipe_and_start(run), "pixels": run.image_size}
        row |= {"accuracy %": cell(run), "accuracy, without copies %": format_ci(after["accuracy"])}
        row[f"recall of `{HEALTHY}` %"] = format_ci(evidence.record(run.id)["per_class"][HEALTHY]["recall"])
        rows.append(row | {f"recall of `{HEALTHY}`, without copies %": format_ci(after["recall"])})
    return pd.DataFrame(rows)


def _shares(groups: np.ndarray) -> dict[str, float]:
    images, right, healthy, found = groups.sum(axis=0)
    return {"accuracy": right / images, "recall": found / healthy if healthy else np.nan}


def copied(dataset: str) -> set[str]:
    """Paths of the images that have a copy in another fold (`splitting.copies_file`); without a table none."""
    listed = index.SPLITS / copies_file(dataset)
    if not listed.is_file():
        return set()
    pairs = read_table(listed, needs=["path", "copy_path"])
    return {*pairs.path, *pairs.copy_path}


def shortcut_accuracy(curation: Sequence[dict]) -> pd.DataFrame:
    """What can be predicted without anatomy, by patient: accuracy, and the AUC of tumour against none."""
    rows = []
    for found in curation:
        row = {"data set": found["dataset"], "orientation (linked images)": format_ci(found["orientation only"])}
        for view, title in (("file", "the file"), ("stored", "packed image"), ("levelled", "levelled image")):
            metrics = found["source only"].get(view)
            row[title] = format_ci(metrics["accuracy"]) if metrics else NONE
            if metrics and metrics.get("tumour_auc"):
                row[title] += f", AUC {metrics['tumour_auc']['value']:.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


TABLES = {
    "same_images": same_images,
    "cleaning": cleaned,
    "external": external_tests,
    "detector": left_out_sources,
    "copies": results_without_copies,
    "shortcuts": lambda evidence: shortcut_accuracy(evidence.curation),
}
