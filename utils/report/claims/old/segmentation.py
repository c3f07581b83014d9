"""Tables of segmentation: Dice by patient, by slice, by region, and from S2's recipe to ours."""

from collections.abc import Sequence

import pandas as pd

from datasets import catalog
from utils.evaluation.segmentation import by_patient
from utils.recipes import RECIPES
from utils.recipes.published import published
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import (
    NONE,
    STEPS_AT,
    WEIGHTS,
    cell,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    mark,
    of_steps,
    tested,
)

MASK_METRICS = {
    "dice": "Dice %",
    "iou": "IoU %",
    "precision": "precision %",
    "recall": "recall %",
    "fnr": "FNR %",
    "fpr": "FPR %",
    "accuracy": "accuracy %",
    "hd95": "HD95",
}
THREE = ("ClassicUNet", "ImprovedUNet", "AttentionUNet")  # S2's networks


def mask_metrics(results: dict[str, dict]) -> pd.DataFrame:
    """Metrics of masks, a row for each of `results` {name: {metric: {value, low, high}}}; HD95 is a distance."""
    rows = {
        name: {title: format_ci(entry[m], percent=m != "hd95", digits=1) for m, title in MASK_METRICS.items()}
        for name, entry in results.items()
    }
    return pd.DataFrame(rows).T


def s2_reported() -> dict[str, dict]:
    """What S2 reported for BraTS 2020 on a slice-wise split: network → metric → share."""
    found = {model: published("s2", model, "brats2020", "slices") for model in THREE}
    return {model: reported for model, reported in found.items() if reported}


def s2_segmentation() -> pd.DataFrame:
    """What S2 reported for BraTS 2020."""
    rows = [
        {"model": model, "n_filters": RECIPES["s2"][model].model_args["n_filters"]}
        | {name: f"{100 * reported[name]:.1f}" for name in ("dice", "iou", "precision", "recall")}
        for model, reported in s2_reported().items()
    ]
    return pd.DataFrame(rows)


def three_unets(records: Sequence[dict], dataset: str = "cheng", recipe: str = "ours") -> dict[str, dict]:
    """S2's networks by name, trained for as many epochs and tested on the same images of patient fold 0 at full size.

    Of several budgets that on the present folds, then the longest; a network that was not run so is left out.
    """
    found = {m: find_run(records, dataset=dataset, split="patient", recipe=recipe, model=m) for m in THREE}
    budgets = {m: (not r["old_folds"], r["training"]["epochs"]) for m, r in found.items() if r}
    return {m: found[m] for m, budget in budgets.items() if budget == max(budgets.values())}


def whole_run(evidence: Evidence, dataset: str = "cheng", model: str = "AttentionUNet") -> dict | None:
    """The run under our recipe, all folds where they are pooled, else the first; None without a run."""
    of = {"dataset": dataset, "model": model, "split": "patient", "recipe": "ours"}
    return find_run(evidence.segmentation, **of, fold=None) or find_run(evidence.segmentation, **of)


def patients_by_size(evidence: Evidence, dataset: str = "cheng", model: str = "AttentionUNet") -> pd.DataFrame | None:
    """Dice and pixels of each test patient of `whole_run`; None without a run."""
    record = whole_run(evidence, dataset, model)
    return by_patient(evidence.predictions(record), catalog.get(dataset).mask_channels) if record else None


def dice_by_patient(records: Sequence[dict]) -> pd.DataFrame:
    """One row a segmentation run that tested whole patients: Dice by patient, and pooled as S2 did.

    Runs at `STEPS_AT` pixels are in `steps`; pooled folds are in their pooled record.
    """
    rows = []
    for record in sorted(records, key=lambda r: (r["run"]["dataset"], -r["metrics"]["dice"]["value"])):
        run, training = record["run"], record["training"]
        if run["split"] != "patient" or (training and of_steps(run)) or is_pooled_elsewhere(record, records):
            continue
        rows.append(
            {
                "data set": run["dataset"] + (", middle slices" if run.get("selection") == "middle" else ""),
                "tested": tested(record),
                "model": run["model"],
                "recipe": _recipe_words(run) if training else NONE,
                "seed": run["seed"] if training else NONE,
                "pixels": run["image_size"],
                "epochs": training["epochs"] if training else NONE,
                "Dice %": cell(record, "dice"),
                "recall %": cell(record, "recall"),
                "precision %": cell(record, "precision"),
                "HD95": format_ci(record["metrics"]["hd95"], percent=False, digits=1),
                "Dice % as S2 pooled": f"{100 * record['s2_pooling']['dice']:.1f}",
                "patients": record["patients"],
            }
        )
    return pd.DataFrame(rows)


def _recipe_words(run: dict) -> str:
    """The recipe, and of a network that may be pretrained its initial weights."""
    return run["recipe"] if run["pretrained"] is None else f"{run['recipe']}, {WEIGHTS[run['pretrained']]}"


def regions(records: Sequence[dict]) -> pd.DataFrame:
    """Dice by mask and region, a row a run on volumes."""
    rows = []
    for record in records:
        if len(record["per_class"]) > 1 and not is_pooled_elsewhere(record, records):
            dice = {name: format_ci(entry["dice"]) for name, entry in record["per_class"].items()}
            run = record["run"]
            which = {"data set": run["dataset"], "model": run["model"], "recipe": run["recipe"].replace("none", NONE)}
            rows.append(which | dice)
    return pd.DataFrame(rows)


def slice_pairs(records: Sequence[dict]) -> dict[tuple, dict[str, dict]]:
    """Runs that differ in the split alone, by slice or by patient fold: (data set, model, recipe, size) → split →
    record."""
    pairs: dict[tuple, dict[str, dict]] = {}
    for record in records:
        run = record["run"]
        key = (run["dataset"], run["model"], run["recipe"], run["image_size"])
        if run["split"] in ("slices", "patient") and run["fold"] is not None:
            pairs.setdefault(key, {}).setdefault(run["split"], record)
    return {key: pair for key, pair in pairs.items() if len(pair) == 2}


def slices_or_patients(records: Sequence[dict]) -> pd.DataFrame:
    """Dice on a split by slice and on one by patient, a row a data set and model, runs of the same recipe and size."""
    rows = [
        {
            "data set": dataset,
            "model": model,
            "pixels": size,
            "by slice": cell(pair["slices"], "dice"),
            "by patient (fold 0)": cell(pair["patient"], "dice"),
            "by slice, as S2 pooled": f"{100 * pair['slices']['s2_pooling']['dice']:.1f}",
        }
        for (dataset, model, _, size), pair in slice_pairs(records).items()
    ]
    return pd.DataFrame(rows)


def dice_by_split(records: Sequence[dict]) -> dict[str, dict]:
    """The Dice of `slice_pairs` by name of model and split, for a forest plot."""
    return {
        f"{model}, {words}{mark(pair[split])}": pair[split]["metrics"]["dice"]
        for (_, model, _, _), pair in slice_pairs(records).items()
        for split, words in (("slices", "by slice"), ("patient", "by patient"))
    }


def recipe_steps(records: Sequence[dict], dataset: str = "cheng") -> pd.DataFrame:
    """Every recipe tried on patient fold 0: Dice on validation patients decides, test scores are reported. Runs on
    earlier folds, which had other validation patients, stand above those on the present ones."""
    of_fold = [r for r in records if r["run"]["dataset"] == dataset and r["run"]["split"] == "patient"]
    tried = [r for r in of_fold if r["training"] and r["run"]["fold"] == 0]
    rows = []
    for record in sorted(tried, key=lambda r: (not mark(r), r["training"]["val_dice"])):
        recipe = record["recipe"]
        rows.append(
            {
                "recipe": _recipe_words(record["run"]),
                "seed": record["run"]["seed"],
                "model": record["run"]["model"],
                "loss": recipe["loss"],
                "optimiser": recipe["optimizer"],
                "augmentation": recipe["augmentation"],
                "pixels": record["run"]["image_size"],
                "parameters": f"{record['parameters']:,}",
                "epochs": record["training"]["epochs"],
                "validation Dice %": f"{100 * record['training']['val_dice']:.1f}{mark(record)}",
                "test Dice %": cell(record, "dice"),
            }
        )
    return pd.DataFrame(rows)


def gate_histories(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The epochs of `AttentionUNet` under each recipe, patient fold 0 of `cheng` at `STEPS_AT` pixels, by recipe,
    marked where it was run on earlier folds."""
    wanted = {"dataset": "cheng", "model": "AttentionUNet", "split": "patient", "fold": 0, "image_size": STEPS_AT}
    found = [r for r in evidence.segmentation if all(r["run"][key] == value for key, value in wanted.items())]
    order = list(RECIPES)
    found.sort(key=lambda r: order.index(r["run"]["recipe"]))
    return {r["run"]["recipe"] + mark(r): evidence.history(r) for r in found}
