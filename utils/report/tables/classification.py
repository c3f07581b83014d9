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
from utils.evaluation.intervals import grouped_ci
from utils.report.records import Evidence
from utils.report.tables import common as t
from utils.report.tables.common import ALL_FOLDS, FOLD_0, NONE, STEPS_AT, WEIGHTS, cell, format_ci, matching, show

DATASET = "brain-tumor-mri"


def results_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: what was run, accuracy and macro-F1 in percent with 95 % CIs, and the reported number."""
    return show(
        runs.sort_values(["dataset", "split", "accuracy"], ascending=[True, True, False], kind="stable"),
        "data set = dataset | split = tested | model = title | pixels = image_size | epochs | "
        "accuracy % = accuracy | macro F1 % = macro_f1 | macro AUC = macro_auc. | reported accuracy % = reported% | "
        "test images = images",
    )


def published_or_patient(evidence: Evidence) -> pd.DataFrame:
    """Published split against patient folds, a row a data set and model."""
    runs, key = t.headline(evidence.runs), ["dataset", "title"]
    patient, published = (matching(runs, tested=one).set_index(key, drop=False) for one in (ALL_FOLDS, "published"))
    patient = patient.assign(
        said=published.reported,
        published=t.by_protocol(runs, key).published,
        unseen=t.by_protocol(runs, key, "unseen.accuracy").published,
        lost=t.percent(patient.accuracy - published.accuracy, sign="+"),
        spread=[f"{100 * min(folds):.1f} – {100 * max(folds):.1f}" for folds in patient.folds],
    )
    return show(
        patient.loc[t.networks_first(patient.index)],
        "data set = dataset | model = title | epochs | reported by S2 = said% | published split = published | "
        "unseen images only = unseen | patient folds = accuracy | difference, points = lost | "
        "lowest – highest fold = spread",
    )


def leakage(evidence: Evidence) -> pd.DataFrame:
    """A row a data set and method (`title`), trained on the published split and by patient and asked about the same
    images: those that the publisher tests, each of which the patient folds test once, without a known relative in
    training. `images`, `reported` accuracy, `fall`: the `Difference`, corrected for the number of rows."""
    runs = t.headline(evidence.runs)
    rows = []
    for (dataset, title), of in runs[runs.title != "majority"].groupby(["dataset", "title"]):
        shipped, folds = (matching(of, tested=tested) for tested in ("published", ALL_FOLDS))
        if len(shipped) and len(folds):
            run = shipped.iloc[0]
            row = {"dataset": dataset, "title": title, "images": run.images, "reported": run.reported}
            rows.append(row | {"fall": t.paired(evidence, run, folds.iloc[0])})
    table = pd.DataFrame(rows, columns=["dataset", "title", "images", "reported", "fall"])
    return table.assign(fall=corrected(table.fall))


def same_images(evidence: Evidence) -> pd.DataFrame:
    """The same as a table, with the test's p-value and verdict."""
    rows = leakage(evidence)
    return show(
        rows.assign(
            before=[one.before for one in rows.fall],
            after=[one.after for one in rows.fall],
            p=t.p_values(rows.fall),
            verdict=[one.verdict for one in rows.fall],
        ),
        "data set = dataset | model = title | test images = images | published split = before% | by patient = after% | "
        "difference, points = fall | p, corrected = p | by patient it is = verdict",
    )


def cleaned(evidence: Evidence) -> pd.DataFrame:
    """S0's claim by its two factors: two data sets, raw and cleaned, and both by patient; networks of one size."""
    runs, key = matching(_at_steps(evidence.runs), view="stored"), ["dataset", "title"]
    images = matching(runs, split="published").set_index(key).images.map(str)
    clean = matching(runs, split="cleaned").set_index(key, drop=False)
    both = images.reindex(clean.index).fillna(NONE) + " / " + clean.images.map(str)
    clean = clean.assign(**t.by_protocol(runs, key), both=both)
    return show(
        clean.loc[t.networks_first(clean.index)],
        "data set = dataset | model = title | raw = published | cleaned by S0's rule = cleaned | "
        "patient folds = patient, all folds | test images raw / cleaned = both",
    )


def undone_shortcuts(evidence: Evidence) -> pd.DataFrame:
    """Accuracy with a shortcut removed (`view`), on the published split and on patient fold 0; networks of one size."""
    runs = matching(_at_steps(evidence.runs), dataset=DATASET)
    table = t.by_protocol(runs[runs.model != "majority"], ["title", "view"])
    table = table[(table[["published", FOLD_0]] != NONE).any(axis=1)]
    table = table.loc[t.networks_first(table.index)].reset_index()
    return show(table, "model = title | view | published split = published | patient fold 0")


def _at_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """Classifiers of the size at which changes are tried, and baselines, which have none."""
    runs = matching(t.classifiers(runs), target="label")
    return runs[runs.baseline | (runs.image_size == STEPS_AT)]


def external_tests(evidence: Evidence, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Trained on one set, tested on images that only another has; also scored as tumour against none, by the likeliest
    class and at the threshold that validation chose; a rate of too few images is not shown. `runs`: by default all."""
    runs = t.that_name_a_class(evidence.runs if runs is None else runs)
    runs = runs[(runs.split == "external") & (runs.model != "majority")]
    rows = []
    for _, run in runs.iterrows():
        images = {name: entry["images"] for name, entry in evidence.record(run.id)["per_class"].items()}
        hidden = too_few(sum(images.values()) - images.get(HEALTHY, 0), images.get(HEALTHY, 0))
        rates = ("sensitivity", "specificity", "auc")
        row = {n: NONE if n in hidden else cell(run, f"tumour_{n}", percent=n != "auc") for n in rates}
        row["network"] = run.title + (f", {run.recipe}" if run.task == "localisation" else "")
        row["network"] += f", seed {run.seed}" if run.seed else ""
        rows.append(row | {"kinds": ", ".join(f"{count} {name}" for name, count in images.items() if count)})
    texts = pd.DataFrame(rows, runs.index, columns=["sensitivity", "specificity", "auc", "network", "kinds"])
    where, screened = runs.dataset + " → " + runs.test_on, t.sensitivity_specificity(runs, "tumour_or_none")
    return show(
        runs.assign(**texts, where=where, screened=screened),
        "trained on → tested on = where | model = network | pixels = image_size | test images = kinds | accuracy | "
        "tumour: sensitivity = sensitivity | tumour: specificity = specificity | tumour: AUC = auc | "
        "sensitivity / specificity at the validation threshold = screened",
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
        recall = evidence.record(run.id)["per_class"][HEALTHY]["recall"]
        recipe = "baseline" if run.baseline else f"{run.recipe}, {WEIGHTS[run.pretrained is True]}"
        row = {"model": run.title, "recipe": recipe, "pixels": run.image_size}
        row |= {"accuracy %": cell(run), "accuracy, without copies %": format_ci(after["accuracy"])}
        row[f"recall of `{HEALTHY}` %"] = format_ci(recall)
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
    "headline": published_or_patient,
    "cleaning": cleaned,
    "external": external_tests,
    "views": undone_shortcuts,
    "copies": results_without_copies,
    "shortcuts": lambda evidence: shortcut_accuracy(evidence.curation),
}
