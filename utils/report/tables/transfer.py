"""Tables of transfer learning: backbones, linear probes, recipes, seeds and ensembles."""

import numpy as np
import pandas as pd

from utils.evaluation.calibration import calibrated, calibration_error
from utils.evaluation.compare import corrected, difference, mean_score
from utils.evaluation.ensembling import choose
from utils.recipes import RECIPES
from utils.recipes.ours import LONGER
from utils.report.records import BEST_RECIPE, PROBE, Evidence
from utils.report.tables.common import (
    BEST_PROBE,
    NONE,
    WEIGHTS,
    by_split,
    cell,
    cells,
    compare,
    find_run,
    format_ci,
    gains,
    matching,
    percent,
    recipes,
    seconds_of_one,
    shown,
    split_words,
    splits,
    that_name_a_class,
)

FEWEST = 3  # seeds, of which a range is shown
QUESTIONS = {"label": "all classes", "tumour": "tumour or none", "type": "type of tumour", "sequence": "MR sequence"}
COMPARED = ("published", "cleaned", "patient", "random")
LIKE = ["dataset", "split", "fold", "test_on"]  # of runs that tested the same images
FINE_TUNED = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "seed": 0}
OTHERS = ({"title": BEST_PROBE}, {"title": "CustomCNN", "recipe": "s2", "seed": 0})
OUTLINED = {"model": "OutlineClassifier", "recipe": "from-outline", "seed": 0}  # where it was trained on the split


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Backbones that were trained; a probe was not."""
    return runs[(runs.task == "transfer") & ~runs.baseline]


def backbone_runs(evidence: Evidence) -> pd.DataFrame:
    """One row a backbone, its initial weights and its recipe, on one data set: size, time, accuracy by patient.

    Runs that `recipe_runs` compares with ours are left out; of folds that are not all there the first stands for them.
    """
    compared = [one for runs in on_one_budget(evidence) for one in runs.id[runs.recipe != "ours"]]
    runs = trained(evidence.runs)
    runs = runs[~runs.is_pooled & ~runs.id.isin(compared) & ~(runs.fold.fillna(0) > 0) & (runs.target == "label")]
    runs = runs.assign(asked=[evidence.record(one)["recipe"]["epochs"] for one in runs.id])
    key = ["dataset", "model", "pretrained", "recipe", "image_size", "asked"]
    rows = []
    for _, pair in runs[runs.split.isin(("published", "patient"))].groupby(key, sort=False):
        both = {run.split: run for _, run in pair.iterrows()}
        published, patient, run = both.get("published"), both.get("patient"), pair.iloc[0]
        minutes = [NONE if one is None else f"{seconds_of_one(one) / 60:.0f}" for one in (published, patient)]
        best = run if patient is None else patient
        row = {
            "data set": run.dataset,
            "backbone": run.model,
            "weights": WEIGHTS[run.pretrained],
            "recipe": run.recipe,
            "pixels": run.image_size,
            "epochs": pair.epochs.max(),
            "parameters": f"{run.parameters / 1e6:.1f} M",
            "unfrozen": f"{run.trainable / 1e6:.1f} M",
            "minutes a training": " / ".join(minutes),
            "published split": cell(published),
            "macro F2, AUC there": _f2_and_auc(published),
            "by patient": cell(patient),
            "F2, AUC by patient": _f2_and_auc(patient),
            "tested": NONE if patient is None else split_words(patient),
            "reported": NONE if published is None or pd.isna(published.reported) else f"{100 * published.reported:.1f}",
        }
        rows.append(((run.dataset, patient is None, -best.accuracy), row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])])


def _f2_and_auc(run: pd.Series | None) -> str:
    return NONE if run is None else f"{cell(run, 'macro_f2')}, {cell(run, 'macro_auc', percent=False)}"


def probe_runs(evidence: Evidence) -> pd.DataFrame:
    """Linear probes, a row a data set, target, backbone and input size: accuracy under each protocol, and 1-NN by
    patient."""
    probes = matching(evidence.runs, recipe="probe", is_pooled=False)
    probes = probes.assign(order=by_split(probes), words=splits(probes), ci=cells(probes))
    probes = probes.sort_values("order", kind="stable")
    key = ["dataset", "target", "model", "image_size"]
    protocols = pd.concat([one.words for _, one in probes.groupby(key, sort=False)] or [probes.words]).unique()
    table = probes.pivot(index=key, columns="words", values="ci")[protocols].fillna(NONE).reset_index()
    of = {"split": "patient", "fold": None, "title": "1-NN"}
    nearest = [find_run(evidence.runs, dataset=row.dataset, target=row.target, **of) for row in table.itertuples()]
    table = table.assign(**{"1-NN by patient": [cell(one) for one in nearest]}).rename_axis(columns=None)
    return table.rename(columns={"dataset": "data set", "model": "backbone", "image_size": "pixels"})


def pretraining_pairs(evidence: Evidence) -> list[dict[str, pd.Series]]:
    """Runs that differ in their initial weights alone, as {"scratch": run, "pretrained": run}."""
    same = [*LIKE, "model", "recipe", "image_size", "seed", "target", "epochs"]
    groups = trained(evidence.runs).groupby(same, sort=False, dropna=False)
    pairs = ({"pretrained" if run.pretrained else "scratch": run for _, run in pair.iterrows()} for _, pair in groups)
    return [pair for pair in pairs if len(pair) == 2]


def pretraining_gain(evidence: Evidence) -> pd.DataFrame:
    """Pretrained against from scratch, same backbone, recipe and images: each, and the difference image by image."""
    rows = []
    for pair in pretraining_pairs(evidence):
        run = pair["pretrained"]
        if all(one.is_pooled for one in pair.values()):
            continue
        found = compare(evidence, pd.DataFrame(pair.values()).assign(start=list(pair)), "scratch", by="start")
        same = {name: None if pd.isna(run[name]) else run[name] for name in [*LIKE, "target"]}
        rows.append(
            {
                "data set": run.dataset,
                "split": split_words(run),
                "backbone": run.model,
                "recipe": run.recipe,
                "pixels": run.image_size,
                "epochs": run.epochs,
                "from scratch": format_ci(found.ci["scratch"]),
                "pretrained": format_ci(found.ci["pretrained"]),
                "gain by pretraining, points": format_ci(found.difference["pretrained"].interval, sign=True),
                "linear probe": cell(find_run(evidence.runs, title=f"{PROBE} {run.model}", **same)),
                "1-NN": cell(find_run(evidence.runs, title="1-NN", **same)),
            }
        )
    return pd.DataFrame(rows)


def on_one_budget(evidence: Evidence) -> list[pd.DataFrame]:
    """Pretrained runs of one patient fold that differ in the recipe alone, `ours` among them."""
    runs = matching(trained(evidence.runs), split="patient", pretrained=True, seed=0)
    runs = runs[runs.fold.notna() & runs.recipe.isin(RECIPES)]
    runs = runs.sort_values("recipe", key=lambda names: names.map(list(RECIPES).index), kind="stable")
    groups = [one for _, one in runs.groupby(["dataset", "fold", "model", "image_size"])]
    return [one for one in groups if "ours" in set(one.recipe) and len(one) > 2]


def recipe_runs(evidence: Evidence) -> pd.DataFrame:
    """The recipes of S0, S1, S3, S4, ours and its ingredients on one patient fold, sorted by validation accuracy."""
    tables = []
    for runs in on_one_budget(evidence):
        found = compare(evidence, runs, "ours").sort_values("validation", ascending=False, kind="stable")
        columns = {
            "data set": found.dataset + ", " + splits(found),
            "backbone": found.model + f", {WEIGHTS[True]}",
            "recipe": found.recipe,
            "pixels": found.image_size,
            "epochs": found.epochs,
            "unfrozen": found.trainable.map("{:,}".format),
            "validation %": percent(found.validation),
            "test accuracy %": found.ci.map(format_ci),
            "difference to ours, points": gains(found, ""),
            "gain by TTA, points": cells(found, "tta.gain", sign=True),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables or [pd.DataFrame()])


def fine_tunings(evidence: Evidence) -> pd.DataFrame:
    """Fold 0 of ResNet50-v2 under each way to fine-tune it from its probe, a row a run: the best by `mean` validation
    accuracy first, then by data set; only data sets where all of them were run."""
    of = {"model": "ResNet50-v2", "image_size": 224, "split": "patient", "fold": 0, "seed": 0, "target": "label"}
    ways = ("probe-first", *LONGER)
    runs = matching(trained(evidence.runs), view="stored", **of)
    runs = runs[runs.recipe.isin(ways)].drop_duplicates(["recipe", "dataset"])
    runs = runs[runs.groupby("dataset").recipe.transform("nunique") == len(ways)]
    runs = runs.assign(mean=runs.groupby("recipe").val_accuracy.transform("mean"))
    return runs.sort_values(["mean", "recipe", "dataset"], ascending=[False, True, True])


def fine_tuning_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a way to fine-tune ResNet50-v2: accuracy on the validation patients of fold 0, which chose, and on its test
    patients, which did not."""
    rows = []
    for name, runs in fine_tunings(evidence).groupby("recipe", sort=False):
        run = runs.iloc[0]
        row = {"recipe": name, "epochs": run.epochs, "unfrozen": f"{run.trainable / 1e6:.1f} M"}
        row["augmentation"] = evidence.record(run.id)["recipe"]["augmentation"]
        row |= dict(zip(runs.dataset + ", validation %", percent(runs.val_accuracy), strict=True))
        row |= {"mean": f"{100 * run['mean']:.1f}"} | dict(zip(runs.dataset + ", test %", cells(runs), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def by_seed(evidence: Evidence) -> list[pd.DataFrame]:
    """Classifiers that differ in the seed alone, at least `FEWEST` of each, by seed; the multi-task networks
    of chapter 4 have a table of their own."""
    runs = that_name_a_class(evidence.runs)
    runs = runs[~runs.baseline & (runs.task != "multitask")]
    columns = ["dataset", "fold", "image_size", "model", "n_filters", "pretrained", "quick", "recipe", "selection"]
    columns += ["split", "target", "test_on", "view"]
    settings = pd.Series([str(evidence.record(one)["recipe"]) for one in runs.id], runs.index)
    groups = runs.groupby([runs[name].astype(str) for name in columns] + [settings], dropna=False)
    return [one.sort_values("seed") for _, one in groups if len(one) >= FEWEST]


def several_seeds(evidence: Evidence) -> pd.DataFrame:
    """A row a training: accuracy by seed, their mean and range, and the interval of the first over patients."""
    rows = []
    for runs in by_seed(evidence):
        run, values = runs.iloc[0], 100 * runs.accuracy
        rows.append(
            {
                "data set": run.dataset,
                "split": split_words(run),
                "model": run.model,
                "recipe": recipes(runs)[0],
                "pixels": run.image_size,
                "seeds": len(runs),
                "accuracy % by seed": ", ".join(map("{:.1f}".format, values)),
                "mean": f"{values.mean():.1f}",
                "range, points": f"{values.max() - values.min():.1f}",
                "first seed (95 % CI)": cell(run),
            }
        )
    return pd.DataFrame(rows)


def differences_to_probe(evidence: Evidence) -> pd.DataFrame:
    """Every run that tested the same images as the best linear probe, and as `difference` what it is better, corrected
    for the number of runs.

    Runs of the first seed; the pooled run of all patient folds, or the first fold where others are missing.
    """
    runs = that_name_a_class(evidence.runs)
    runs = runs[~runs.is_pooled & ~(runs.fold.fillna(0) > 0) & (runs.seed == 0) & (runs.view == "stored")]
    runs = runs[runs.split.isin(COMPARED) & ~runs.title.isin((BEST_PROBE, "majority"))]
    runs = runs.assign(order=by_split(runs), fold_order=runs.fold.fillna(0)).sort_values(
        ["dataset", "order", "fold_order", "accuracy"], ascending=[True, True, True, False], kind="stable"
    )
    same = ["dataset", "split", "fold", "target"]
    probes = matching(evidence.runs, title=BEST_PROBE, view="stored").drop_duplicates(same)
    runs = runs.merge(probes[[*same, "id"]].rename(columns={"id": "probe"}), on=same, how="inner")
    tables = {one: evidence.predictions(one) for one in runs.probe.unique()}
    found = [difference(evidence.predictions(run.id), tables[run.probe]) for run in runs.itertuples()]
    runs = runs.assign(difference=corrected(found))
    return runs[runs.difference.notna()]  # none where a table was replaced and other images were tested


def against_the_probe(evidence: Evidence) -> pd.DataFrame:
    """A row a model and split: accuracy, and its difference to the linear probe's with interval and corrected p."""
    runs = differences_to_probe(evidence)
    p = runs.difference.map(lambda one: one.p_corrected)
    return pd.DataFrame(
        {
            "data set": runs.dataset,
            "target": runs.target,
            "split": splits(runs),
            "model": [shown(run) for _, run in runs.iterrows()],
            "recipe": recipes(runs),
            "pixels": runs.image_size,
            "accuracy %": cells(runs),
            "minus linear probe, points": [format_ci(one.interval, sign=True) for one in runs.difference],
            "p, corrected": p.map("{:.3f}".format).where(p >= 0.001, "<.001"),
        }
    )


def run_name(run: pd.Series) -> str:
    """A run in a few words, for a figure."""
    asked = "" if run.target == "label" else f" ({QUESTIONS[run.target]})"
    how = f"{run.recipe}, {WEIGHTS[run.pretrained is True]}, {run.image_size} px"
    return f"{run.model} ({how}) on {run.dataset}{asked}, {split_words(run)}"


def ensembles(evidence: Evidence) -> list[dict]:
    """What an ensemble of unlike networks gains: fine-tuned, linear probe, from scratch, named from its outline.

    Temperature and weight of each are chosen on the validation images of its split, fold by fold, from the committed
    predictions. A data set and split each: the runs of the `members` (fine-tuned first), the `weights` of each by fold,
    the `accuracy` of the ensemble, what it `gained` over the fine-tuned one alone, corrected for their number, and the
    `calibration` error of the fine-tuned one, of the same at its own temperature, and of the ensemble, whose members
    all have one: what scaling alone does is no merit of the ensemble.

    Only where all members kept their predictions of the same validation images and tested the same images. The network
    that is named from its outline joins where it was trained on all the same folds.
    """
    runs = matching(evidence.runs, **FINE_TUNED)
    runs = runs[~runs.is_pooled].assign(order=by_split(runs)).sort_values(["dataset", "order", "id"])
    found = []
    for _, run in runs.iterrows():
        folds = [evidence.runs.loc[one] for one in run.pooled] if isinstance(run.pooled, list) else [run]
        others = OTHERS
        if all(_like(evidence, one, OUTLINED) is not None for one in [run, *folds]):
            others += (OUTLINED,)
        asked = [_one_fold(evidence, one, others) for one in folds]
        if any(one is None for one in asked):
            continue
        alone, scaled, together = (pd.concat([one[i] for one in asked], ignore_index=True) for i in range(3))
        found.append(
            {
                "members": [run, *(_like(evidence, run, who) for who in others)],
                "weights": [one[3] for one in asked],
                "accuracy": mean_score(together),
                "gained": difference(together, alone),
                "calibration": tuple(map(_error, (alone, scaled, together))),
            }
        )
    family = corrected(one["gained"] for one in found)
    return [one | {"gained": gained} for one, gained in zip(found, family, strict=True)]


def ensemble_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a data set and split: the ensemble, each member alone, its mean weight, and the calibration error."""
    rows = []
    for one in ensembles(evidence):
        fine_tuned, probe, scratch, *outlined = one["members"]
        rows.append(
            {
                "data set": fine_tuned.dataset,
                "split": split_words(fine_tuned),
                "ensemble, accuracy %": format_ci(one["accuracy"]),
                "ResNet50-v2, fine-tuned": cell(fine_tuned),
                "its linear probe": cell(probe),
                "CustomCNN": cell(scratch),
                "named from the outline": cell(outlined[0]) if outlined else NONE,
                "mean weights": " / ".join(f"{weight:.2f}" for weight in np.mean(one["weights"], axis=0)),
                "ensemble minus fine-tuned, points": format_ci(one["gained"].interval, sign=True),
                "calibration error %, fine-tuned → at its temperature → ensemble": " → ".join(
                    f"{100 * error:.1f}" for error in one["calibration"]
                ),
            }
        )
    return pd.DataFrame(rows)


def _like(evidence: Evidence, run: pd.Series, who: dict) -> pd.Series | None:
    """The run of another network on the split of `run`."""
    runs = evidence.runs[(evidence.runs.task != "transfer") | evidence.runs.baseline]
    return find_run(runs, **{name: None if pd.isna(run[name]) else run[name] for name in LIKE}, **who)


def _one_fold(evidence: Evidence, run: pd.Series, others: tuple[dict, ...]) -> tuple | None:
    """The test images of one split, asked of the first member as it is, of the first at its temperature, and of all;
    and the weights. None where a member is missing, or was validated or tested on other images."""
    members = [run, *(_like(evidence, run, who) for who in others)]
    if any(member is None for member in members):
        return None
    validated = [evidence.validation(member.id) for member in members]
    if any(table is None for table in validated):
        return None
    tested = [evidence.predictions(member.id) for member in members]
    validated, tested = ([t.sort_values("path", ignore_index=True) for t in one] for one in (validated, tested))
    if any(not table.path.equals(same[0].path) for same in (validated, tested) for table in same):
        return None
    columns = [name for name in validated[0] if name.startswith("p_")]
    if not set(columns) <= set(tested[0]):
        return None  # an external set that says less than these networks
    classes = np.array([name.removeprefix("p_") for name in columns])
    ensemble = choose([t[columns].to_numpy() for t in validated], pd.Categorical(validated[0].label, classes).codes)
    probabilities = ensemble([t[columns].to_numpy() for t in tested])
    together, scaled = tested[0].assign(predicted=classes[probabilities.argmax(1)]), tested[0].copy()
    together[columns] = probabilities
    scaled[columns] = calibrated(tested[0][columns].to_numpy(), ensemble.temperatures[0])
    return tested[0], scaled, together, ensemble.weights


def _error(table: pd.DataFrame) -> float:
    columns = [name for name in table if name.startswith("p_")]
    truth = pd.Categorical(table.label, [name.removeprefix("p_") for name in columns]).codes
    return calibration_error(table[columns].to_numpy(), truth.astype(np.int64))
