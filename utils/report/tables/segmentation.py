"""Tables of segmentation, S0's multi-task network, localisation, and several findings an image."""

from collections.abc import Mapping

import pandas as pd

from datasets import catalog
from datasets.catalog import CLASSES, HEALTHY, DataError
from models import LOCALISERS
from utils.evaluation.compare import corrected, difference
from utils.evaluation.intervals import mean_interval
from utils.evaluation.pointing import SIZES, TOLERANCE
from utils.evaluation.segmentation import by_patient
from utils.recipes import RECIPES
from utils.recipes.localisation import STEPS
from utils.recipes.published import published
from utils.report.records import Evidence
from utils.report.tables.common import (
    BEST_PROBE,
    NONE,
    STEPS_AT,
    WEIGHTS,
    budgets,
    by_split,
    cell,
    cells,
    compare,
    find_run,
    format_ci,
    gains,
    matching,
    percent,
    sensitivity_specificity,
    split_words,
    splits,
    texts,
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
OF_FINDINGS = {"AUC": "auc", "average precision": "average_precision", "sensitivity %": "sensitivity"}
OF_FINDINGS |= {"specificity %": "specificity", "precision %": "precision"}
THREE = ("ClassicUNet", "ImprovedUNet", "AttentionUNet")  # S2's networks
S0 = "s0"  # the recipe of S0's own method, with which changes of it are compared
PLAIN = "name-only"  # what the other steps of localisation are compared with


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


def three_unets(runs: pd.DataFrame) -> pd.DataFrame:
    """S2's networks under our recipe on patient fold 0 of cheng at full size, those of the longest training."""
    of = {"dataset": "cheng", "split": "patient", "recipe": "ours"}
    found = [find_run(runs, model=model, **of) for model in THREE]
    found = pd.DataFrame([run for run in found if run is not None], columns=runs.columns)
    return found[found.epochs == found.epochs.max()]


def whole_run(evidence: Evidence) -> pd.Series | None:
    """AttentionUNet under our recipe on cheng, all folds where they are pooled, else the first."""
    of = {"dataset": "cheng", "model": "AttentionUNet", "split": "patient", "recipe": "ours"}
    whole = find_run(evidence.runs, **of, fold=None)
    return find_run(evidence.runs, **of) if whole is None else whole


def patients_by_size(evidence: Evidence) -> pd.DataFrame | None:
    """Dice and pixels of each test patient of `whole_run`; None without a run."""
    run = whole_run(evidence)
    return None if run is None else by_patient(evidence.predictions(run.id), catalog.get("cheng").mask_channels)


def gate_histories(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The epochs of `AttentionUNet` under each recipe, patient fold 0 of `cheng` at `STEPS_AT` pixels, by recipe."""
    of = {"dataset": "cheng", "model": "AttentionUNet", "split": "patient", "fold": 0, "image_size": STEPS_AT}
    runs = matching(evidence.runs, **of)
    runs = runs.sort_values("recipe", key=lambda names: names.map(list(RECIPES).index), kind="stable")
    return {run.recipe: evidence.history(run.id) for run in runs.itertuples()}


def dice_by_patient(evidence: Evidence) -> pd.DataFrame:
    """One row a segmentation run that tested whole patients: Dice by patient, and pooled as S2 did.

    Runs at `STEPS_AT` pixels are in `steps`; pooled folds are in their pooled run.
    """
    runs = matching(evidence.runs, task="segmentation", split="patient", is_pooled=False)
    runs = runs[runs.baseline | (runs.image_size != STEPS_AT)]
    runs = runs.sort_values(["dataset", "dice"], ascending=[True, False], kind="stable")
    return pd.DataFrame(
        {
            "data set": runs.dataset + runs.selection.map({"middle": ", middle slices"}).fillna(""),
            "tested": splits(runs),
            "model": runs.model,
            "recipe": _recipes(runs).where(~runs.baseline, NONE),
            "seed": runs.seed.astype(object).where(~runs.baseline, NONE),
            "pixels": runs.image_size,
            "epochs": texts(runs.epochs),
            "Dice %": cells(runs, "dice"),
            "recall %": cells(runs, "recall"),
            "precision %": cells(runs, "precision"),
            "HD95": cells(runs, "hd95", percent=False, digits=1),
            "Dice % as S2 pooled": _s2_pooled(evidence, runs),
            "patients": [evidence.record(one)["patients"] for one in runs.id],
        }
    )


def _s2_pooled(evidence: Evidence, runs: pd.DataFrame) -> list[str]:
    return [f"{100 * evidence.record(one)['s2_pooling']['dice']:.1f}" for one in runs.id]


def _recipes(runs: pd.DataFrame) -> pd.Series:
    """The recipe of every run, and of a network that may be pretrained its initial weights."""
    start = runs.pretrained.map({known: f", {word}" for known, word in WEIGHTS.items()})
    return runs.recipe.astype(object) + start.astype(object).fillna("")


def regions(evidence: Evidence) -> pd.DataFrame:
    """Dice by mask and region, a row a run on volumes."""
    rows = []
    for run in matching(evidence.runs, task="segmentation", is_pooled=False).itertuples():
        per_class = evidence.record(run.id)["per_class"]
        if len(per_class) > 1:
            row = {"data set": run.dataset, "model": run.model, "recipe": NONE if run.baseline else run.recipe}
            rows.append(row | {name: format_ci(entry["dice"]) for name, entry in per_class.items()})
    return pd.DataFrame(rows)


def slice_pairs(evidence: Evidence) -> pd.DataFrame:
    """Runs that differ in the split alone, by slice or by patient fold: two rows a pair, by slice first."""
    runs = evidence.runs[evidence.runs.split.isin(("slices", "patient")) & evidence.runs.fold.notna()]
    key = ["dataset", "model", "recipe", "image_size"]
    runs = matching(runs, task="segmentation").drop_duplicates([*key, "split"])
    return runs[runs.groupby(key).split.transform("size") == 2].sort_values(
        [*key, "split"], ascending=[True] * 4 + [False]
    )


def slices_or_patients(evidence: Evidence) -> pd.DataFrame:
    """Dice on a split by slice and on one by patient, a row a data set and model, runs of the same recipe and size."""
    runs = slice_pairs(evidence)
    by_slice, patient = (matching(runs, split=split) for split in ("slices", "patient"))
    return pd.DataFrame(
        {
            "data set": by_slice.dataset,
            "model": by_slice.model,
            "pixels": by_slice.image_size,
            "by slice": cells(by_slice, "dice"),
            "by patient (fold 0)": cells(patient, "dice").to_numpy(),
            "by slice, as S2 pooled": _s2_pooled(evidence, by_slice),
        }
    )


def recipe_steps(evidence: Evidence) -> pd.DataFrame:
    """Every recipe tried on patient fold 0 of cheng: Dice on validation patients decides, test scores are reported."""
    runs = matching(evidence.runs, task="segmentation", dataset="cheng", split="patient", fold=0, baseline=False)
    runs = runs.sort_values("val_dice", kind="stable")
    recipes = [evidence.record(one)["recipe"] for one in runs.id]
    return pd.DataFrame(
        {
            "recipe": _recipes(runs),
            "seed": runs.seed,
            "model": runs.model,
            "loss": [recipe["loss"] for recipe in recipes],
            "optimiser": [recipe["optimizer"] for recipe in recipes],
            "augmentation": [recipe["augmentation"] for recipe in recipes],
            "pixels": runs.image_size,
            "parameters": runs.parameters.map("{:,}".format),
            "epochs": runs.epochs,
            "validation Dice %": percent(runs.val_dice),
            "test Dice %": cells(runs, "dice"),
        }
    )


def own_method(evidence: Evidence) -> pd.DataFrame:
    """Runs of S0's own recipe by its network, whole folds pooled; those at `STEPS_AT` pixels are in `ablation`."""
    runs = matching(evidence.runs, task="multitask", recipe=S0, is_pooled=False)
    return runs[runs.image_size != STEPS_AT]


def multitask_runs(evidence: Evidence) -> pd.DataFrame:
    """One row a run of S0's own method: tumour type, tumour or none, and the baselines on the same images."""
    runs = own_method(evidence)
    runs = runs.assign(order=by_split(runs)).sort_values(["dataset", "order"], kind="stable")
    rows = []
    for _, run in runs.iterrows():
        reported = published(S0, run.model, run.dataset, run.split)
        same = {"dataset": run.dataset, "split": run.split, "fold": None if pd.isna(run.fold) else run.fold}
        rows.append(
            {
                "data set": run.dataset,
                "split": split_words(run),
                "reported by S0": f"{100 * reported['accuracy']:.1f}" if reported else NONE,
                "accuracy": cell(run),
                "linear probe": cell(find_run(evidence.runs, **same, title=BEST_PROBE)),
                "1-NN": cell(find_run(evidence.runs, **same, title="1-NN")),
                "macro F1": cell(run, "macro_f1"),
                "tumour AUC": cell(run, "tumour_auc", percent=False),
                "sensitivity / specificity at .5": sensitivity_specificity(run, "screening.S0"),
                "at the threshold from validation": sensitivity_specificity(run, "screening.validation"),
                "AUC of the reconstruction error": cell(run, "anomaly.tumour", percent=False),
                "test images": run.images,
                "width": run.n_filters,
                "pixels": run.image_size,
                "epochs": run.epochs,
            }
        )
    return pd.DataFrame(rows)


def multitask_budgets(evidence: Evidence) -> list[pd.DataFrame]:
    """S0's method and what was changed in it, on one patient fold, with the same epochs and seeds."""
    runs = matching(evidence.runs, task="multitask", split="patient")
    return budgets(runs[runs.fold.notna()], S0)


def ablation_runs(evidence: Evidence) -> pd.DataFrame:
    """S0's method with one part removed or exchanged, with the same epochs and seeds; a row a recipe."""
    tables = []
    for runs in multitask_budgets(evidence):
        found = compare(evidence, runs, S0)
        recipes = [evidence.record(one)["recipe"] for one in found.id]
        both = [recipe["model_args"].get("reconstruct", True) for recipe in recipes]
        heads = [recipe["model_args"].get("hierarchical", True) for recipe in recipes]
        columns = {
            "data set": found.dataset + ", " + splits(found),
            "recipe": found.recipe,
            "reconstruction": ["yes" if one else "no" for one in both],
            "heads": ["two" if one else "one" for one in heads],
            "balance": [recipe["balance"] if one else NONE for recipe, one in zip(recipes, both, strict=True)],
            "validation %": percent(found.validation),
            "test accuracy %": found.ci.map(format_ci),
            "difference to S0's, points": gains(found, ""),
            "seeds from – to": found.seeds.map(lambda one: f"{100 * min(one):.1f} – {100 * max(one):.1f}"),
            "seeds": found.seeds.map(len),
            "width": found.n_filters,
            "pixels": found.image_size,
            "epochs": found.epochs,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables or [pd.DataFrame()])


def gradient_histories(evidence: Evidence) -> list[dict[str, pd.DataFrame]]:
    """The epochs of each recipe that reconstructs, first seed, by recipe; one of `multitask_budgets` each."""
    every = [
        {run.recipe: evidence.history(run.id) for run in runs.drop_duplicates("recipe").itertuples()}
        for runs in multitask_budgets(evidence)
    ]
    return [{name: one for name, one in of.items() if "gradient_reconstruction" in one} for of in every]


def balance_effects(evidence: Evidence) -> pd.DataFrame:
    """Reconstruction against classification under each balance, first seed: median over the epochs of their weights'
    ratio and of that of their gradients at the encoder, without and with the weights."""
    rows = []
    for name, history in (item for histories in gradient_histories(evidence) for item in histories.items()):
        weight, gradient = (
            history[f"{of}_reconstruction"] / history[f"{of}_classification"] for of in ("weight", "gradient")
        )
        rows.append(
            {
                "recipe": name,
                "weight of the reconstruction": f"{weight.median():.3g}",
                "its gradient, unweighted": f"{gradient.median():.2g}",
                "its gradient, weighted": f"{(weight * gradient).median():.2g}",
                "reconstruction error, validation": f"{history.val_reconstruction.iloc[-1]:.5f}",
            }
        )
    return pd.DataFrame(rows)


def by_pointing(evidence: Evidence) -> list[dict]:
    """What was measured of committed classifiers, by data set, the best at pointing first."""
    return sorted(
        evidence.pointing, key=lambda found: (found["run"]["dataset"], -found["groups"]["all"]["near"]["value"])
    )


def network(run: pd.Series) -> str:
    """A classifier in a table's words."""
    step = f" {run['recipe']}" if run["model"] in LOCALISERS else ""
    weights = f", {WEIGHTS[run['pretrained']]}" if run["pretrained"] is not None else ""
    return f"{run['model']}{step}{weights}"


def pointing_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a committed classifier: how often the maximum of Grad-CAM lies inside the outlined tumour, or within
    `pointing.TOLERANCE` pixels of it, and which share of the map does; beside a point at random and the brightest one.
    """
    rows = []
    for found in by_pointing(evidence):
        run, whole = evidence.runs.loc[found["id"]], found["groups"]["all"]
        rows.append(
            {
                "data set": run.dataset,
                "split": split_words(run),
                "network": network(run),
                "accuracy": cell(run),
                "pointing": format_ci(whole["pointing"]),
                "by chance": format_ci(whole["area"]),
                f"within {TOLERANCE} pixels": format_ci(whole["near"]),
                "so by chance": format_ci(whole["near_area"]),
                "so the brightest point": format_ci(whole["bright_near"]),
                "energy inside": format_ci(whole["energy"]),
                "empty maps": f"{100 * whole['blank'] / whole['images']:.0f} %",
                "images": whole["images"],
                "patients": whole["patients"],
            }
        )
    return pd.DataFrame(rows)


def pointing_groups(evidence: Evidence) -> pd.DataFrame:
    """The same classifiers: maxima inside or within `pointing.TOLERANCE` pixels of the tumour, by class, by size of the
    tumour, and where the name was right or wrong."""
    titles = {name: f"{name} (<{100 * high:.1f} %)" if high < 1 else name for name, (_, high) in SIZES.items()}
    rows = []
    for found in by_pointing(evidence):
        run = evidence.runs.loc[found["id"]]
        row = {"data set": run.dataset, "split": split_words(run), "network": network(run)}
        for name in (*(c for c in CLASSES if c != HEALTHY), *SIZES, "right", "wrong"):
            entry = found["groups"].get(name)
            row[titles.get(name, name)] = format_ci(entry["near"]) if entry else NONE
        rows.append(row)
    return pd.DataFrame(rows)


def localisation_budgets(evidence: Evidence) -> list[pd.DataFrame]:
    """Runs of the three steps that can be compared, the plain classifier first: all folds together, one fold from
    several seeds, and tests on another data set. A fold that is part of all of them, and has one seed, does not stand
    beside them once more."""
    runs = matching(evidence.runs, task="localisation")
    runs = runs[runs.recipe.isin(STEPS) & runs.split.isin(("patient", "external"))]
    found = [
        one.sort_values(["recipe", "seed"], key=lambda c: c.map(list(STEPS).index) if c.name == "recipe" else c)
        for one in budgets(runs, PLAIN)
        if not (one.seed.nunique() == 1 and one.is_pooled[(one.recipe == PLAIN) & (one.seed == 0)].any())
    ]
    order = {"external": 2, "patient": 1}
    return sorted(
        found, key=lambda one: (one.dataset.iloc[0], order[one.split.iloc[0]] * int(one.fold.notna().iloc[0]))
    )


def localisation_runs(evidence: Evidence) -> pd.DataFrame:
    """Name only, with masks, named from the outline: on one budget, a row a step, with the same seeds; then recipes
    that are no step of these, and steps without a plain classifier beside them. Outlines and Grad-CAM are those of the
    first seed."""
    together = localisation_budgets(evidence)
    runs = matching(evidence.runs, task="localisation")
    settings = pd.Series([_but_the_seed(evidence.record(one)) for one in runs.id], runs.index, dtype=object)
    compared = settings.loc[[one for budget in together for one in budget.id]]
    parts = {part for budget in together for of in budget.pooled if isinstance(of, list) for part in of}
    alone = runs[~settings.isin(set(compared)) & ~runs.id.isin(parts)]  # another seed waits until all steps have it
    others = [one.sort_values("id") for _, one in alone.groupby(settings, sort=False)]
    tables = []
    for budget, reference in [(one, PLAIN) for one in together] + [(one, one.recipe.iloc[0]) for one in others]:
        found = compare(evidence, budget, reference)
        same = [{k: None if pd.isna(run[k]) else run[k] for k in SAME} for _, run in found.iterrows()]
        columns = {
            "data set": found.dataset,
            "split": splits(found),
            "step": found.recipe,
            "pixels": found.image_size,
            "epochs": found.epochs,
            "seeds": found.seeds.map(len),
            "validation %": percent(found.validation),
            "accuracy": found.ci.map(format_ci),
            "minus name-only, points": gains(found),
            "Dice": cells(found, "outline.dice"),
            "the outline points": cells(found, "outline.pointing"),
            "Grad-CAM points": cells(found, "grad_cam.all.pointing"),
            f"within {TOLERANCE} pixels": cells(found, "grad_cam.all.near"),
            "so by chance": cells(found, "grad_cam.all.near_area"),
            "1-NN": [cell(find_run(evidence.runs, title="1-NN", **one)) for one in same],
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables or [pd.DataFrame()])


SAME = ("dataset", "split", "fold", "test_on")


def _but_the_seed(record: dict) -> str:
    """What a run is, whatever its seed."""
    return str([record["run"] | {"seed": 0}, record["recipe"]])


def sensitivities(evidence: Evidence, runs: pd.DataFrame) -> dict[str, dict]:
    """How many tumours of another data set each step recognises, at the threshold that its own validation images chose.

    Args:
        runs: one of `localisation_budgets`, tested on another data set.

    Returns:
        step → `sensitivity` {value, low, high}, the mean over the seeds, with a 95 % interval over groups;
        `difference` to the plain classifier's, tumour by tumour, corrected for the number of steps (None of the plain
        one itself); `seeds`, the sensitivity of each; `healthy`, how many images show none. Empty where a seed has no
        threshold.

    Raises:
        DataError: a run that tested other images than those beside it.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    healthy = 0
    for run in runs.itertuples():
        threshold = (evidence.record(run.id).get("tumour_or_none") or {}).get("threshold")
        if threshold is None:
            return {}
        table = evidence.predictions(run.id)
        sick, found = table.label.ne(HEALTHY), table[f"p_{HEALTHY}"].rsub(1).ge(threshold)
        healthy = int((~sick).sum())
        tables.setdefault(run.recipe, []).append(table.assign(label=True, predicted=found)[sick])
    others = [step for step in tables if step != PLAIN]
    differences = corrected(difference(tables[step], tables[PLAIN]) for step in others)
    if None in differences:
        raise DataError(f"{runs.id.iloc[0]}: its seeds tested other images; run them again")
    differences = dict(zip(others, differences, strict=True))
    joined = {step: pd.concat(of) for step, of in tables.items()}
    return {
        step: {
            "sensitivity": mean_interval(joined[step].predicted, joined[step].group),
            "difference": differences.get(step),
            "seeds": [float(one.predicted.mean()) for one in tables[step]],
            "healthy": healthy,
        }
        for step in tables
    }


def tumours_elsewhere(evidence: Evidence) -> pd.DataFrame:
    """A row a step: how many tumours of another data set it recognises, at the threshold that validation chose for a
    specificity of `screening.SPECIFICITY`."""
    rows = []
    for runs in localisation_budgets(evidence):
        run = runs.iloc[0]
        for step, found in sensitivities(evidence, runs).items() if run.split == "external" else ():
            gain = found["difference"]
            rows.append(
                {
                    "trained on": run.dataset,
                    "tested on": run.test_on,
                    "step": step,
                    "sensitivity": format_ci(found["sensitivity"]),
                    "by seed": ", ".join(f"{100 * value:.1f}" for value in found["seeds"]),
                    "minus name-only, points": format_ci(gain.interval, sign=True) if gain else NONE,
                }
            )
    return pd.DataFrame(rows)


def by_finding(per_class: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row a finding: images that show it, AUC and average precision, and what the threshold of validation gives."""
    rows = {
        finding: {"images": entry["images"]}
        | {column: format_ci(entry[metric], percent=column.endswith("%")) for column, metric in OF_FINDINGS.items()}
        for finding, entry in per_class.items()
    }
    return pd.DataFrame(rows).T


def findings_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a run: mean AUC and mean average precision over the findings."""
    runs = matching(evidence.runs, task="findings", is_pooled=False)
    runs = runs.sort_values(["dataset", "macro_auc"], ascending=[True, False], kind="stable")
    return pd.DataFrame(
        {
            "data set": runs.dataset,
            "split": splits(runs),
            "network": runs.model,
            "recipe": runs.recipe,
            "pixels": runs.image_size,
            "epochs": texts(runs.epochs),
            "mean AUC": cells(runs, "macro_auc", percent=False),
            "mean average precision": cells(runs, "macro_average_precision", percent=False),
            "test images": runs.images,
            "patients": runs.groups,
        }
    )
