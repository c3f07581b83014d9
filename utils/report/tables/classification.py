"""Tables of classifiers from scratch, of what curation found, and of recipes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import HEALTHY
from datasets.reading import read_table
from datasets.splitting import copies_file
from datasets.store import index
from utils.evaluation.classification import too_few
from utils.evaluation.intervals import grouped_bootstrap_ci
from utils.recipes.recipe import Recipe
from utils.report.records import Evidence
from utils.report.tables.common import (
    NONE,
    STEPS_AT,
    by_key,
    cell,
    cells,
    classifiers,
    format_ci,
    headline,
    in_table_order,
    interval,
    matching,
    percent,
    recipes,
    sensitivity_specificity,
    shown,
    splits,
    texts,
    that_name_a_class,
)

DATASET = "brain-tumor-mri"
ALIKE = "images alike one in another fold"  # of `facts.json`, followed by what alike means
FEW = 4  # classes, each a column of `patient_folds`
NAMED = ("name", "source", "stages", "stage")  # of a recipe: `source` is a sentence; each of `stages` has a row
SCREENED = ("sensitivity", "specificity", "auc")
RESULTS = {"accuracy": "accuracy", "recall": f"recall of `{HEALTHY}`"}


def results_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: what was run, accuracy and macro-F1 in percent with 95 % CIs, and the reported number."""
    runs = runs.sort_values(["dataset", "split", "accuracy"], ascending=[True, True, False], kind="stable")
    return pd.DataFrame(
        {
            "data set": runs.dataset,
            "split": splits(runs),
            "model": runs.title,
            "pixels": runs.image_size,
            "epochs": texts(runs.epochs),
            "accuracy %": cells(runs),
            "macro F1 %": cells(runs, "macro_f1"),
            "macro AUC": cells(runs, "macro_auc", percent=False),
            "reported accuracy %": percent(runs.reported),
            "test images": runs.images,
        }
    ).reset_index(drop=True)


def published_or_patient(evidence: Evidence) -> pd.DataFrame:
    """Published split against patient folds, a row a data set and model."""
    runs = headline(evidence.runs)
    published = by_key(matching(runs, split="published"), "dataset", "title")
    patient = by_key(matching(runs, split="patient", fold=None), "dataset", "title")
    lost = pd.to_numeric(patient.accuracy) - pd.to_numeric(published.accuracy).reindex(patient.index)
    table = {
        "data set": patient.dataset,
        "model": patient.title,
        "epochs": texts(patient.epochs),
        "reported by S2": percent(published.reported),
        "published split": cells(published),
        "unseen images only": cells(published, "unseen.accuracy"),
        "patient folds": cells(patient),
        "difference, points": percent(lost, "{:+.1f}"),
        "lowest – highest fold": patient.folds.map(lambda f: f"{100 * min(f):.1f} – {100 * max(f):.1f}"),
    }
    return _ordered(table, patient.index)


def cleaned(evidence: Evidence) -> pd.DataFrame:
    """S0's claim by its two factors: two data sets, raw and cleaned, and both by patient; networks of one size."""
    runs = matching(_at_steps(evidence.runs), view="stored")
    raw, cleaned = (by_key(matching(runs, split=s), "dataset", "title") for s in ("published", "cleaned"))
    table = {
        "data set": cleaned.dataset,
        "model": cleaned.title,
        "raw": cells(raw),
        "cleaned by S0's rule": cells(cleaned),
        "patient folds": cells(by_key(matching(runs, split="patient", fold=None), "dataset", "title")),
        "test images raw / cleaned": texts(raw.images).reindex(cleaned.index, fill_value=NONE)
        + " / "
        + texts(cleaned.images),
    }
    return _ordered(table, cleaned.index)


def undone_shortcuts(evidence: Evidence) -> pd.DataFrame:
    """Accuracy with a shortcut removed (`view`), on the published split and on patient fold 0; networks of one size."""
    runs = matching(_at_steps(evidence.runs), dataset=DATASET)
    runs = runs[runs.model != "majority"]
    both = [by_key(matching(runs, split=split, fold=0), "title", "view") for split in ("published", "patient")]
    keys = both[0].index.union(both[1].index)
    table = {"model": keys.get_level_values(0).to_series(keys), "view": keys.get_level_values(1).to_series(keys)}
    table |= {"published split": cells(both[0]), "patient fold 0": cells(both[1])}
    return _ordered(table, keys)


def _at_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """Classifiers of the size at which changes are tried, and baselines, which have none."""
    runs = matching(classifiers(runs), target="label")
    return runs[runs.baseline | (runs.image_size == STEPS_AT)]


def _ordered(columns: dict[str, pd.Series], keys: pd.Index) -> pd.DataFrame:
    """Columns that are indexed by key as a table with the rows `keys`, networks first."""
    table = pd.DataFrame({name: column.reindex(keys) for name, column in columns.items()}, dtype=object)
    return table.loc[in_table_order(keys)].fillna(NONE).reset_index(drop=True)


def external_tests(evidence: Evidence, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Trained on one set, tested on images that only another has; also scored as tumour against none.

    By the likeliest class, and at the threshold that validation chose; a rate of too few images is not shown.

    Args:
        runs: which ones; by default all that name a class but the multi-task networks.
    """
    chosen = that_name_a_class(evidence.runs) if runs is None else runs
    rows = []
    for _, run in chosen[(chosen.split == "external") & ~chosen.model.isin(("majority", "MultiTaskUNet"))].iterrows():
        images = {name: entry["images"] for name, entry in evidence.record(run.id)["per_class"].items()}
        healthy = images.get(HEALTHY, 0)
        hidden = too_few(sum(images.values()) - healthy, healthy)
        rate = {n: NONE if n in hidden else cell(run, f"tumour_{n}", percent=n != "auc") for n in SCREENED}
        recipe = f", {run.recipe}" if run.task == "localisation" else ""
        seed = f", seed {run.seed}" if run.seed else ""
        rows.append(
            {
                "trained on → tested on": f"{run.dataset} → {run.test_on}",
                "model": f"{shown(run)}{recipe}{seed}",
                "pixels": run.image_size,
                "test images": ", ".join(f"{count} {name}" for name, count in images.items() if count),
                "accuracy": cell(run),
                "tumour: sensitivity": rate["sensitivity"],
                "tumour: specificity": rate["specificity"],
                "tumour: AUC": rate["auc"],
                "sensitivity / specificity at the validation threshold": sensitivity_specificity(run, "tumour_or_none"),
            }
        )
    return pd.DataFrame(rows)


def results_without_copies(evidence: Evidence, dataset: str = DATASET) -> pd.DataFrame:
    """A row a result over all patient folds: accuracy and recall of the images without a tumour, on all test images
    and without those that have a copy in another fold."""
    runs, rows = over_all_folds(evidence, dataset), []
    for (_, run), recipe in zip(runs.iterrows(), recipes(runs), strict=True):
        row = {"model": run.title, "recipe": recipe, "pixels": run.image_size}
        before, after = before_and_after(evidence, run)
        for result, words in RESULTS.items():
            row |= {f"{words} %": format_ci(before[result]), f"{words}, without copies %": format_ci(after[result])}
        rows.append(row)
    return pd.DataFrame(rows)


def over_all_folds(evidence: Evidence, dataset: str = DATASET) -> pd.DataFrame:
    """The results over all patient folds, the most accurate first; without the commonest class as the answer, whose
    accuracy says no more than how common it is."""
    wanted = {"dataset": dataset, "split": "patient", "fold": None, "target": "label"}
    runs = matching(that_name_a_class(evidence.runs), **wanted)
    runs = runs.assign(title=[shown(run) for _, run in runs.iterrows()])
    return runs[runs.model != "majority"].sort_values("accuracy", ascending=False, kind="stable")


def copied(dataset: str) -> set[str]:
    """Paths of the images that have a copy in another fold (`datasets/curation/copies.py`); without a table none."""
    listed = index.SPLITS / copies_file(dataset)
    if not listed.is_file():
        return set()
    pairs = read_table(listed, needs=["path", "copy_path"])
    return {*pairs.path, *pairs.copy_path}


def before_and_after(evidence: Evidence, run: pd.Series) -> tuple[dict, dict]:
    """`RESULTS` of a run with their intervals, on all test images and without those that have a copy elsewhere."""
    recall = evidence.record(run.id)["per_class"][HEALTHY]["recall"]
    tested = evidence.predictions(run.id)
    alone = by_group(tested[~tested.path.isin(copied(run.dataset))])
    trials = {"accuracy": len(alone), "recall": int((alone[:, 2] > 0).sum())}  # groups in which each is counted
    after = grouped_bootstrap_ci(range(len(alone)), lambda rows: shares_of(alone[rows]), trials=trials)
    return {"accuracy": interval(run), "recall": recall}, after


def by_group(predictions: pd.DataFrame) -> np.ndarray:
    """A row a group: images, those answered rightly, images without a tumour, and those answered rightly."""
    right, healthy = predictions.label.eq(predictions.predicted), predictions.label.eq(HEALTHY)
    counted = pd.DataFrame({"images": 1, "right": right, "healthy": healthy, "found": right & healthy}, dtype=int)
    return counted.groupby(predictions.group).sum().to_numpy()


def shares_of(counts: np.ndarray) -> dict[str, float]:
    """`RESULTS` of some groups, drawn once or several times."""
    images, right, healthy, found = counts.sum(axis=0)
    return {"accuracy": right / images, "recall": found / healthy if healthy else np.nan}


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


def nearest_neighbour(curation: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of the nearest neighbour on the publishers' uncropped images, for every set and protocol."""
    rows = []
    for found in curation:
        for protocol, result in found["nearest neighbour"].items():
            unseen = result["unseen"]
            row = {
                "data set": found["dataset"],
                "split": protocol,
                "accuracy": format_ci(result["metrics"]["accuracy"]),
            }
            row["unseen images"] = f"{format_ci(unseen['accuracy'])} of {unseen['images']}" if unseen else NONE
            rows.append(row | {f"recall {c}": format_ci(entry["recall"]) for c, entry in result["per_class"].items()})
    return pd.DataFrame(rows).fillna(NONE)


def patient_folds() -> pd.DataFrame:
    """The committed patient folds, a row a data set, from `datasets/splits/facts.json`.

    Groups and the largest of them; images that have one alike in another fold; how many rows move when one group falls
    in two, with and without the table made before; of sets with few classes the images of each in the smallest and the
    largest fold.
    """
    rows = []
    for name, facts in json.loads((index.SPLITS / "facts.json").read_text()).items():
        if name not in catalog.CATALOG:
            continue  # counts of two sets together
        alike = next(count for fact, count in facts.items() if fact.startswith(ALIKE))
        row = {
            "data set": name,
            "images": facts["images"],
            "groups": facts["groups"],
            "largest group": facts["largest group"],
            "images with a similar image in another fold": alike,
            "images that change fold when a group is divided": facts["most rows that move when a group splits in two"],
            "the same if all folds are drawn anew": facts["most rows that move then without the table made before"],
        }
        classes = catalog.get(name).classes
        for c in classes if len(classes) <= FEW else ():
            of_class = [n for fact, n in facts.items() if fact.startswith("fold ") and fact.endswith(f", {c}")]
            row |= {f"{c} a fold": f"{min(of_class)}–{max(of_class)}"} if of_class else {}
        rows.append(row)
    return pd.DataFrame(rows).fillna(NONE)


def class_shift(curation: Sequence[dict]) -> pd.DataFrame:
    """Validation and test set of each data set, a row a class: where they come from, how well they can be separated.

    A set that has no published split is not linked, so it has no column for that."""
    tables = []
    for found in curation:
        rows = {}
        for c, pixels in found["shift"]["pixels"].items():
            linked = {part: share.get(c, 0) for part, share in found["linked share"].items() if part}
            rows[c] = {f"linked to cheng, {part}": f"{100 * share:.0f}" for part, share in linked.items()}
            recall = {part: values[c] for part, values in found["1-NN recall"].items()}
            rows[c] |= {f"1-NN recall, {part}": f"{100 * share:.0f}" for part, share in recall.items()}
            for name, values in (("pixels", pixels), ("CustomCNN", found["shift"]["CustomCNN"].get(c, {}))):
                auc, p = values.get("auc"), values.get("p")
                rows[c][f"AUC, {name} (p)"] = NONE if auc is None else f"{auc:.2f} ({p:.3f})"
        tables.append(pd.DataFrame(rows).T.rename_axis("class").reset_index())
    return pd.concat(tables or [pd.DataFrame()])


def recipe_values(recipe: Recipe) -> pd.DataFrame:
    """What a recipe states, a row a value; what it leaves out (nothing, 0, False) has no row."""
    stated = {name: _written(value) for name, value in asdict(recipe).items() if value and name not in NAMED}
    stated |= {f"stage {number}": _written(stage) for number, stage in enumerate(recipe.stages, start=1)}
    return pd.DataFrame({"value": stated})


def _written(value: object) -> object:
    """A mapping as `step_size 10, gamma 0.5`; anything else as it is."""
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, Mapping) else value
