"""Tables of classifiers from scratch: published split against patient folds, cleaning, external tests, views."""

from collections.abc import Sequence

import pandas as pd

from datasets.facts import HEALTHY
from utils.evaluation.classification import NOTHING, too_few
from utils.report.tables.common import (
    NONE,
    cell,
    find_run,
    format_ci,
    in_table_order,
    mark,
    same_folds,
    sensitivity_specificity,
    shown_size,
    tested,
)


def results_table(records: Sequence[dict]) -> pd.DataFrame:
    """One row a run: what was run, accuracy and macro-F1 in percent with 95 % CIs, and the reported number."""
    rows = []
    for record in sorted(
        records, key=lambda r: (r["run"]["dataset"], r["run"]["split"], -r["metrics"]["accuracy"]["value"])
    ):
        run, training, published = record["run"], record["training"], record["published"]
        rows.append(
            {
                "data set": run["dataset"],
                "split": tested(record),
                "model": run["model"],
                "pixels": run["image_size"],
                "epochs": training["epochs"] if training else NONE,
                "accuracy %": format_ci(record["metrics"]["accuracy"]),
                "macro F1 %": format_ci(record["metrics"]["macro_f1"]),
                "macro AUC": format_ci(record["metrics"]["macro_auc"], percent=False),
                "reported accuracy %": f"{100 * published['accuracy']:.1f}" if published else NONE,
                "test images": record["images"],
            }
        )
    return pd.DataFrame(rows)


def published_or_patient(records: Sequence[dict]) -> pd.DataFrame:
    """Published split against patient folds, a row a data set and model; no difference to a run on earlier folds."""
    rows = []
    for dataset, model in in_table_order(records, lambda run: (run["dataset"], run["model"])):
        of = {"dataset": dataset, "model": model, "image_size": shown_size(model, records)}
        published = find_run(records, split="published", **of)
        patient = find_run(records, split="patient", fold=None, **of)
        if patient is None:
            continue
        unseen = published and published.get("unseen")
        reported = published and published["published"]
        lost = None
        if published and same_folds(published, patient):
            lost = 100 * (patient["metrics"]["accuracy"]["value"] - published["metrics"]["accuracy"]["value"])
        rows.append(
            {
                "data set": dataset,
                "model": model,
                "epochs": patient["training"]["epochs"] if patient["training"] else NONE,
                "reported by S2": f"{100 * reported['accuracy']:.1f}" if reported else NONE,
                "published split": cell(published),
                "unseen images only": format_ci(unseen["accuracy"]) if unseen else NONE,
                "patient folds": cell(patient),
                "difference, points": NONE if lost is None else f"{lost:+.1f}",
                "lowest – highest fold": f"{100 * min(patient['folds']):.1f} – {100 * max(patient['folds']):.1f}"
                + mark(patient),
            }
        )
    return pd.DataFrame(rows)


def cleaned(records: Sequence[dict], image_size: int = 64) -> pd.DataFrame:
    """S0's claim by its two factors: two data sets, raw and cleaned, and both by patient; networks of one size."""
    rows = []
    for dataset, model in in_table_order(records, lambda run: (run["dataset"], run["model"])):
        of = {"dataset": dataset, "model": model, "image_size": image_size}
        raw, cleaned = (find_run(records, split=split, **of) for split in ("published", "cleaned"))
        if cleaned is None:
            continue
        rows.append(
            {
                "data set": dataset,
                "model": model,
                "raw": cell(raw),
                "cleaned by S0's rule": cell(cleaned),
                "patient folds": cell(find_run(records, split="patient", **(of | {"fold": None}))),
                "test images raw / cleaned": f"{raw['images'] if raw else NONE} / {cleaned['images']}",
            }
        )
    return pd.DataFrame(rows)


def external_tests(records: Sequence[dict]) -> pd.DataFrame:
    """Trained on one set, tested on images that only another has; also scored as tumour against none.

    By the likeliest class, and at the threshold that validation chose; a rate of too few images is not shown.
    """
    rows = []
    for record in records:
        run = record["run"]
        if run["split"] != "external" or run["model"] == "majority":
            continue
        images = {c: entry["images"] for c, entry in record["per_class"].items()}
        classes = ", ".join(f"{n} {c}" for c, n in images.items() if n)
        healthy = images.get(HEALTHY, 0)
        hidden = too_few(sum(images.values()) - healthy, healthy)
        rate = {n: record["metrics"].get(f"tumour_{n}", NOTHING) for n in ("sensitivity", "specificity", "auc")}
        rate |= dict.fromkeys(hidden, NOTHING)
        screened = record.get("tumour_or_none")
        how = f", {run['recipe']}" if record.get("task") == "localisation" else ""
        how += f", seed {run['seed']}" if run["seed"] else ""
        rows.append(
            {
                "trained on → tested on": f"{run['dataset']} → {run['test_on']}",
                "model": f"{run['model']}{how}",
                "pixels": run["image_size"],
                "test images": classes,
                "accuracy": cell(record),
                "tumour: sensitivity": format_ci(rate["sensitivity"]),
                "tumour: specificity": format_ci(rate["specificity"]),
                "tumour: AUC": format_ci(rate["auc"], percent=False),
                "sensitivity / specificity at the validation threshold": sensitivity_specificity(screened),
            }
        )
    return pd.DataFrame(rows)


def undone_shortcuts(records: Sequence[dict], dataset: str = "brain-tumor-mri", image_size: int = 64) -> pd.DataFrame:
    """Accuracy with a shortcut removed (`view`), on the published split and on patient fold 0; networks of one size."""
    rows = []
    for model, view in in_table_order(records, lambda run: (run["model"], run["view"])):
        of = {"dataset": dataset, "model": model, "view": view, "image_size": image_size}
        published, patient = (find_run(records, split=split, **of) for split in ("published", "patient"))
        if model != "majority" and (published or patient):
            cells = {"published split": cell(published), "patient fold 0": cell(patient)}
            rows.append({"model": model, "view": view} | cells)
    return pd.DataFrame(rows)
