"""Tables of segmentation, S0's multi-task network, and localisation."""

import pandas as pd

from utils.evaluation.saliency import TOLERANCE
from utils.recipes.ours import STEPS
from utils.recipes.published import published
from utils.report.records import Evidence, columns_of, intervals
from utils.report.tables import common as t
from utils.report.tables.common import NONE, STEPS_AT, cells, compare, matching, on_same_images

MASK_METRICS = {"dice": "Dice %", "iou": "IoU %", "precision": "precision %", "recall": "recall %"}
MASK_METRICS |= {"fnr": "FNR %", "fpr": "FPR %", "accuracy": "accuracy %", "hd95": "HD95"}
S0 = "s0"  # the recipe of S0's own method, with which changes of it are compared
PLAIN = "name-only"  # what the other steps of localisation are compared with


def mask_metrics(results: dict[str, dict]) -> pd.DataFrame:
    """Metrics of masks, a row for each of `results` {name: {metric: {value, low, high}}}; HD95 is a distance."""
    rows = {
        name: {title: t.format_ci(entry[m], percent=m != "hd95", digits=1) for m, title in MASK_METRICS.items()}
        for name, entry in results.items()
    }
    return pd.DataFrame(rows).T


def dice_by_patient(evidence: Evidence) -> pd.DataFrame:
    """One row a segmentation run that tested whole patients: Dice by patient, and pooled as S2 did. Runs at `STEPS_AT`
    pixels, which compared recipes, are in `runs.csv` alone; pooled folds are in their pooled run."""
    runs = matching(evidence.runs, task="segmentation", split="patient", is_pooled=False)
    runs = runs[runs.baseline | (runs.image_size != STEPS_AT)]
    start = runs.pretrained.map({known: f", {word}" for known, word in t.WEIGHTS.items()}).astype(object).fillna("")
    runs = runs.assign(
        dataset=runs.dataset + runs.selection.map({"middle": ", middle slices", "all": ""}),
        recipe=(runs.recipe + start).astype(object).where(~runs.baseline, NONE),
        seed=runs.seed.where(~runs.baseline),
        distance=cells(runs, "hd95", percent=False, digits=1),
    )
    return t.show(
        runs.astype({"seed": "Int64"}).sort_values(["dataset", "dice"], ascending=[True, False], kind="stable"),
        "data set = dataset | tested | model | recipe | seed | pixels = image_size | epochs | Dice % = dice | "
        "recall % = recall | precision % = precision | HD95 = distance | Dice % as S2 pooled = s2_dice% | patients",
    )


def slice_pairs(evidence: Evidence) -> pd.DataFrame:
    """Runs that differ in the split alone, by slice or by patient fold: two rows a pair, by slice first."""
    runs, key = matching(evidence.runs, task="segmentation"), ["dataset", "model", "recipe", "image_size"]
    runs = runs[runs.split.isin(("slices", "patient")) & runs.fold.notna()].drop_duplicates([*key, "split"])
    runs = runs[runs.groupby(key).split.transform("size") == 2]
    return runs.sort_values([*key, "split"], ascending=[True] * 4 + [False])


def multitask_runs(evidence: Evidence) -> pd.DataFrame:
    """One row a run of S0's own method: tumour type, tumour or none, and the baselines on the same images. Runs at
    `STEPS_AT` pixels are in `ablation`; pooled folds are in their pooled run."""
    runs = matching(evidence.runs, task="multitask", recipe=S0, is_pooled=False)
    runs = t.by_split(runs[runs.image_size != STEPS_AT], "dataset", "split")
    reported = [published(S0, run.model, run.dataset, run.split) or {} for run in runs.itertuples()]
    runs = runs.assign(
        said=[one.get("accuracy") for one in reported],
        probe=cells(on_same_images(evidence, runs, t.BEST_PROBE)),
        nearest=cells(on_same_images(evidence, runs, "1-NN")),
        half=t.sensitivity_specificity(runs, "screening.S0"),
        chosen=t.sensitivity_specificity(runs, "screening.validation"),
    )
    return t.show(
        runs,
        "data set = dataset | split = tested | reported by S0 = said% | accuracy | linear probe = probe | "
        "1-NN = nearest | macro F1 = macro_f1 | tumour AUC = tumour_auc. | sensitivity / specificity at .5 = half | "
        "at the threshold from validation = chosen | AUC of the reconstruction error = anomaly.tumour. | "
        "test images = images | width = n_filters | pixels = image_size | epochs",
    )


def multitask_budgets(evidence: Evidence) -> list[pd.DataFrame]:
    """S0's method and what was changed in it, on one patient fold, with the same epochs and seeds."""
    runs = matching(evidence.runs, task="multitask", split="patient")
    return t.budgets(runs[runs.fold.notna()], S0)


def ablation_runs(evidence: Evidence) -> pd.DataFrame:
    """S0's method with one part removed or exchanged, with the same epochs and seeds; a row a recipe."""
    rows = []
    for runs in multitask_budgets(evidence):
        found = compare(evidence, runs, S0, none="")
        both = [args.get("reconstruct", True) for args in found["recipe.model_args"]]
        found = found.assign(
            where=found.dataset + ", " + found.tested,
            both=["yes" if one else "no" for one in both],
            heads=["two" if args.get("hierarchical", True) else "one" for args in found["recipe.model_args"]],
            balance=found["recipe.balance"].where(both, NONE),
            spread=[f"{100 * min(one):.1f} – {100 * max(one):.1f}" for one in found.seeds],
            count=found.seeds.map(len),
        )
        rows.append(found)
    return t.show_all(
        rows,
        "data set = where | recipe | reconstruction = both | heads | balance | validation % = validation | "
        "test accuracy % = mean | difference to S0's, points = gain | seeds from – to = spread | seeds = count | "
        "width = n_filters | pixels = image_size | epochs",
    )


def gradient_histories(evidence: Evidence) -> list[dict[str, pd.DataFrame]]:
    """The epochs of each recipe that reconstructs, first seed, by recipe; one of `multitask_budgets` each."""
    found = []
    for runs in multitask_budgets(evidence):
        every = {run.recipe: evidence.history(run.id) for run in runs.drop_duplicates("recipe").itertuples()}
        found.append({name: one for name, one in every.items() if "gradient_reconstruction" in one})
    return found


def looks(evidence: Evidence) -> pd.DataFrame:
    """The runs whose Grad-CAM was measured, with what it gave as columns `GROUP.METRIC`."""
    found = {one["id"]: columns_of(intervals(one["groups"])) for one in evidence.pointing}
    return evidence.runs.loc[list(found)].join(pd.DataFrame(found.values(), list(found)))


def localisation_budgets(evidence: Evidence) -> list[pd.DataFrame]:
    """Runs of the three steps that can be compared, the plain classifier first: all folds together, one fold from
    several seeds, and tests on another data set; not once more a fold of one seed that is part of all of them."""
    runs = matching(evidence.runs, task="localisation")
    runs = runs[runs.recipe.isin(STEPS) & runs.split.isin(("patient", "external"))]
    found = [one for one in t.budgets(runs, PLAIN) if one.seed.nunique() > 1 or not one.is_pooled.iloc[0]]
    order = {"external": 2, "patient": 1}  # of one data set; all folds before them
    return sorted(found, key=lambda one: (one.dataset.iloc[0], order[one.split.iloc[0]] * one.fold.notna().iloc[0]))


def localisation_runs(evidence: Evidence) -> pd.DataFrame:
    """Name only, with masks, named from the outline: on one budget, a row a step, with the same seeds. Outlines and
    Grad-CAM are of the first seed."""
    rows = []
    for budget in localisation_budgets(evidence):
        found = compare(evidence, budget, PLAIN)
        rows.append(found.assign(count=found.seeds.map(len), nearest=cells(on_same_images(evidence, found, "1-NN"))))
    return t.show_all(
        rows,
        "data set = dataset | split = tested | step = recipe | pixels = image_size | epochs | seeds = count | "
        "validation % = validation | accuracy = mean | minus name-only, points = gain | Dice = outline.dice | "
        "the outline points = outline.pointing | Grad-CAM points = grad_cam.all.pointing | "
        f"within {TOLERANCE} pixels = grad_cam.all.near | so by chance = grad_cam.all.near_area | 1-NN = nearest",
    )


TABLES = {
    "segmenters": dice_by_patient,
    "multitask": multitask_runs,
    "ablation": ablation_runs,
    "localisation": localisation_runs,
}
