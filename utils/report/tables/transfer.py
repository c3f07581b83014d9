"""Tables of transfer learning: backbones, linear probes, recipes, seeds and ensembles."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils.evaluation.compare import corrected, difference, mean_score
from utils.evaluation.thresholds import calibrated, calibration_error, choose
from utils.recipes.ours import LONGER
from utils.report.records import BEST_RECIPE, PROBE, Evidence
from utils.report.tables import common as t
from utils.report.tables.common import (
    BEST_PROBE,
    IMAGES,
    WEIGHTS,
    cells,
    find_run,
    matching,
    on_same_images,
    show,
    show_all,
)

FEWEST = 3  # seeds, of which a range is shown
QUESTIONS = {"label": "all classes", "tumour": "tumour or none", "type": "type of tumour", "sequence": "MR sequence"}
COMPARED = ("published", "cleaned", "patient", "random")
FINE_TUNED = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "seed": 0}
OTHERS = ({"title": BEST_PROBE}, {"title": "CustomCNN", "recipe": "s2", "seed": 0})
OUTLINED = {"model": "OutlineClassifier", "recipe": "from-outline", "seed": 0}  # where it was trained on the split


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Backbones that were trained; a probe was not."""
    return runs[(runs.task == "transfer") & ~runs.baseline]


def shown_folds(evidence: Evidence, runs: pd.DataFrame) -> pd.DataFrame:
    """Folds pooled where all are there; of others the mean of those that are (`some_folds`), or the only one."""
    return t.some_folds(evidence, runs[~runs.is_pooled])


def backbone_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a run of a fine-tuned backbone, folds pooled where all are there: its initial weights, size, time and
    accuracy. Runs that `recipe_runs` compares with ours are left out."""
    compared = [one for runs in on_one_budget(evidence) for one in runs.id[runs.recipe != "ours"]]
    runs = matching(shown_folds(evidence, trained(evidence.runs)), target="label")
    runs = runs[~runs.id.isin(compared) & runs.split.isin(("published", "patient"))]
    runs = runs.assign(
        minutes=[f"{t.seconds_of_one(run) / 60:.0f}" for _, run in runs.iterrows()],
        weights=runs.pretrained.map(WEIGHTS),
        size=(runs.parameters / 1e6).map("{:.1f} M".format),
        unfrozen=(runs.trainable / 1e6).map("{:.1f} M".format),
        last=-runs.accuracy,
    )
    return show(
        t.by_split(runs, "dataset", "split", "last"),
        "data set = dataset | split = tested | backbone = model | weights | recipe | pixels = image_size | epochs | "
        "parameters = size | unfrozen | minutes a training = minutes | accuracy | macro F2 = macro_f2 | "
        "AUC = macro_auc. | reported = reported%",
    )


def probe_runs(evidence: Evidence) -> pd.DataFrame:
    """Linear probes, a row a data set, target, backbone and size: accuracy under each protocol, and 1-NN by patient."""
    key = ["dataset", "target", "model", "image_size"]
    probes = matching(evidence.runs, recipe="probe", is_pooled=False)
    protocols = [one for _, of in t.by_split(probes, "split").groupby(key, sort=False) for one in of.tested]
    table = t.by_protocol(probes, key)[list(dict.fromkeys(protocols))].reset_index()
    nearest = on_same_images(evidence, table.assign(tested=t.ALL_FOLDS), "1-NN")
    table = table.assign(**{"1-NN by patient": cells(nearest)}).rename_axis(columns=None)
    return table.rename(columns={"dataset": "data set", "model": "backbone", "image_size": "pixels"})


def pretraining_pairs(evidence: Evidence) -> list[pd.DataFrame]:
    """Runs that differ in their initial weights alone, two rows by `start`: "scratch" and "pretrained"."""
    runs = trained(evidence.runs)
    runs = runs.assign(start=runs.pretrained.map({True: "pretrained", False: "scratch"}))
    same = [*IMAGES, "model", "recipe", "image_size", "seed", "epochs"]
    return [pair for _, pair in runs.groupby(same, sort=False) if len(pair) == 2]


def pretraining_gain(evidence: Evidence) -> pd.DataFrame:
    """Pretrained against from scratch, same backbone, recipe and images: each, and the difference image by image."""
    rows = []
    for pair in pretraining_pairs(evidence):
        if pair.is_pooled.all():
            continue
        found = t.compare(evidence, pair, "scratch", by="start").set_index("start")
        one, title = found.loc[["pretrained"]], f"{PROBE} {pair.model.iloc[0]}"
        one = one.assign(scratch=found["mean"]["scratch"], probe=cells(on_same_images(evidence, one, title)))
        rows.append(one.assign(nearest=cells(on_same_images(evidence, one, "1-NN"))))
    return show_all(
        rows,
        "data set = dataset | split = tested | backbone = model | recipe | pixels = image_size | epochs | "
        "from scratch = scratch | pretrained = mean | gain by pretraining, points = gain | linear probe = probe | "
        "1-NN = nearest",
    )


def on_one_budget(evidence: Evidence) -> list[pd.DataFrame]:
    """Pretrained runs of one patient fold that differ in the recipe alone, `ours` among them."""
    runs = t.in_order(matching(trained(evidence.runs), split="patient", pretrained=True, seed=0))
    groups = runs[runs.fold.notna()].groupby(["dataset", "fold", "model", "image_size"])
    return [one for _, one in groups if "ours" in set(one.recipe) and len(one) > 2]


def recipe_runs(evidence: Evidence) -> pd.DataFrame:
    """The recipes of S0, S1, S3, S4, ours and its ingredients on one patient fold, sorted by validation accuracy."""
    rows = []
    for runs in on_one_budget(evidence):
        found = t.compare(evidence, runs, "ours", none="").sort_values("val_accuracy", ascending=False, kind="stable")
        tta = cells(found, "tta.gain", sign=True)
        found = found.assign(where=found.dataset + ", " + found.tested, backbone=found.model + ", pretrained", tta=tta)
        rows.append(found.assign(unfrozen=found.trainable.map("{:,}".format)))
    return show_all(
        rows,
        "data set = where | backbone | recipe | pixels = image_size | epochs | unfrozen | "
        "validation % = validation | test accuracy % = mean | difference to ours, points = gain | "
        "gain by TTA, points = tta",
    )


def fine_tunings(evidence: Evidence) -> pd.DataFrame:
    """Fold 0 of ResNet50-v2 under each way to fine-tune it from its probe, the best `mean` validation accuracy first;
    only data sets where all of them were run."""
    of = {"model": "ResNet50-v2", "image_size": 224, "tested": "patient fold 0", "seed": 0, "target": "label"}
    ways = ("probe-first", *LONGER)
    runs = matching(trained(evidence.runs), view="stored", **of)
    runs = runs[runs.recipe.isin(ways)].drop_duplicates(["recipe", "dataset"])
    runs = runs[runs.groupby("dataset").recipe.transform("nunique") == len(ways)]
    runs = runs.assign(mean=runs.groupby("recipe").val_accuracy.transform("mean"))
    return runs.sort_values(["mean", "recipe", "dataset"], ascending=[False, True, True])


def fine_tuning_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a way to fine-tune ResNet50-v2: accuracy on validation patients, which chose, and on test patients."""
    rows = []
    for name, runs in fine_tunings(evidence).groupby("recipe", sort=False):
        run = runs.iloc[0]
        row = {"recipe": name, "epochs": run.epochs, "unfrozen": f"{run.trainable / 1e6:.1f} M"}
        row |= {"augmentation": run["recipe.augmentation"]}
        row |= dict(zip(runs.dataset + ", validation %", t.percent(runs.val_accuracy), strict=True))
        row |= {"mean": f"{100 * run['mean']:.1f}"} | dict(zip(runs.dataset + ", test %", cells(runs), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def by_seed(evidence: Evidence) -> list[pd.DataFrame]:
    """Classifiers that differ in the seed alone, at least `FEWEST` of each; multi-task ones have their own table."""
    runs = t.that_name_a_class(evidence.runs)
    runs = runs[~runs.baseline & (runs.task != "multitask")]
    settings = pd.Series([str(evidence.record(one)["recipe"]) for one in runs.id], runs.index, name="settings")
    names = ["dataset", "fold", "image_size", "model", "pretrained", "recipe", "split", "target", "test_on", "view"]
    groups = runs.groupby([*(runs[name].astype(str) for name in names), settings], dropna=False)
    return [one.sort_values("seed") for _, one in groups if len(one) >= FEWEST]


def with_start(runs: pd.DataFrame) -> pd.Series:
    """The recipe of every run and its initial weights, or that it is a baseline."""
    words = runs.recipe + ", " + runs.pretrained.eq(True).map(WEIGHTS)
    return words.astype(object).where(~runs.baseline, "baseline")


def differences_to_probe(evidence: Evidence) -> pd.DataFrame:
    """Every run of the first seed that tested the same images as the best linear probe, and as `difference` what it is
    better, corrected for the number of runs."""
    runs = matching(shown_folds(evidence, t.that_name_a_class(evidence.runs)), seed=0, view="stored")
    runs = runs[runs.split.isin(COMPARED) & ~runs.title.isin((BEST_PROBE, "majority"))]
    some = runs.tested.str.endswith(" folds") & (runs.tested != t.ALL_FOLDS)
    among = runs.assign(tested=runs.tested.mask(some, t.ALL_FOLDS))
    runs = runs.assign(probe=on_same_images(evidence, among, BEST_PROBE).id, last=-runs.accuracy, some=some)
    runs = t.by_split(runs[runs.probe.notna()].assign(fold=runs.fold.fillna(0)), "dataset", "split", "fold", "last")
    found, probes = [], {one: evidence.predictions(one) for one in set(runs.probe)}
    for _, run in runs.iterrows():
        tested, probe = t.tested_images(evidence, run), probes[run.probe]
        found.append(difference(tested, probe[probe.path.isin(tested.path)] if run.some else probe))
    runs = runs.assign(difference=corrected(found))
    return runs[runs.difference.notna()]  # none where a table was replaced and other images were tested


def against_the_probe(evidence: Evidence) -> pd.DataFrame:
    """A row a model and split: accuracy, and its difference to the linear probe's with interval and corrected p."""
    runs = differences_to_probe(evidence)
    return show(
        runs.assign(how=with_start(runs), p=t.p_values(runs.difference)),
        "data set = dataset | target | split = tested | model = title | recipe = how | pixels = image_size | "
        "accuracy % = accuracy | minus linear probe, points = difference | p, corrected = p",
    )


def run_name(run: pd.Series) -> str:
    """A run in a few words, for a figure."""
    asked = "" if run.target == "label" else f" ({QUESTIONS[run.target]})"
    how = f"{run.recipe}, {WEIGHTS[run.pretrained is True]}, {run.image_size} px"
    return f"{run.model} ({how}) on {run.dataset}{asked}, {run.tested}"


def ensembles(evidence: Evidence) -> pd.DataFrame:
    """What an ensemble of unlike networks gains: fine-tuned, linear probe, from scratch.

    Temperature and weight of each are chosen on the validation images of its split, fold by fold. A row a fine-tuned
    run, and an `exploratory` one with a fourth member, the network named from its outline: that was added after the
    test scores of the three had been seen. The `members` (runs, itself first), the mean `weights`, the accuracy of the
    `ensemble` {value, low, high}, what it `gained` over the fine-tuned one alone, and the `calibration` errors of the
    fine-tuned one, of the same at its temperature, and of the ensemble. Only where all members validated and tested the
    same images.
    """
    rows = []
    for _, run in t.by_split(matching(evidence.runs, **FINE_TUNED, is_pooled=False), "dataset", "split").iterrows():
        folds = [evidence.runs.loc[one] for one in run.pooled] if isinstance(run.pooled, list) else [run]
        for others in (OTHERS, (*OTHERS, OUTLINED)):
            members = _members(evidence, run, others)
            asked = [_one_fold(evidence, _members(evidence, one, others)) for one in folds]
            if not members or None in asked:
                continue
            *tables, weights = zip(*asked, strict=True)
            alone, scaled, together = (pd.concat(of, ignore_index=True) for of in tables)
            found = {"members": members, "exploratory": OUTLINED in others, "weights": np.mean(weights, axis=0)}
            found |= {"ensemble": mean_score(together), "gained": difference(together, alone)}
            rows.append({**run} | found | {"calibration": [_error(one) for one in (alone, scaled, together)]})
    return pd.DataFrame(rows).assign(gained=corrected(row["gained"] for row in rows))


def ensemble_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a data set, split and number of members: the ensemble, each member alone, its mean weight, and the
    calibration error."""
    runs = ensembles(evidence)
    if runs.empty:
        return runs
    alone = pd.DataFrame([dict(enumerate(map(t.cell, members))) for members in runs.members], runs.index, range(4))
    return show(
        runs.join(alone.add_prefix("member ")).assign(
            result=runs.exploratory.map({False: "three", True: "four, exploratory"}),
            weights=[" / ".join(map("{:.2f}".format, one)) for one in runs.weights],
            calibration=[" → ".join(f"{100 * one:.1f}" for one in errors) for errors in runs.calibration],
        ),
        "data set = dataset | split = tested | members = result | "
        "ensemble, accuracy % = ensemble | ResNet50-v2, fine-tuned = member 0 | "
        "its linear probe = member 1 | CustomCNN = member 2 | named from the outline = member 3 | "
        "mean weights = weights | ensemble minus fine-tuned, points = gained | "
        "calibration error %, fine-tuned → at its temperature → ensemble = calibration",
    )


def _members(evidence: Evidence, run: pd.Series, others: Sequence[dict]) -> list[pd.Series]:
    """A run and those of other networks on its split; none where one is missing."""
    runs = matching(evidence.runs, dataset=run.dataset, tested=run.tested)
    runs = runs[(runs.task != "transfer") | runs.baseline]
    found = [run, *(find_run(runs, fold=None if pd.isna(run.fold) else run.fold, **who) for who in others)]
    return [] if any(one is None for one in found) else found


def _one_fold(evidence: Evidence, members: list[pd.Series]) -> tuple | None:
    """The test images of one split, asked of the first member as it is, of the first at its temperature, and of all;
    and the weights. None where a member is missing, or was validated or tested on other images."""
    validated = [evidence.validation(member.id) for member in members]
    if not members or any(table is None for table in validated):
        return None
    tested = [evidence.predictions(member.id) for member in members]
    validated, tested = ([one.sort_values("path", ignore_index=True) for one in of] for of in (validated, tested))
    columns = [name for name in validated[0] if name.startswith("p_")]
    same = all(table.path.equals(of[0].path) for of in (validated, tested) for table in of)
    if not same or not set(columns) <= set(tested[0]):
        return None  # also an external set that says less than these networks
    classes = np.array([name.removeprefix("p_") for name in columns])
    asked, known = ([one[columns].to_numpy() for one in of] for of in (tested, validated))
    ensemble = choose(known, pd.Categorical(validated[0].label, classes).codes)
    probabilities = ensemble(asked)
    together, scaled = tested[0].assign(predicted=classes[probabilities.argmax(1)]), tested[0].copy()
    together[columns], scaled[columns] = probabilities, calibrated(asked[0], ensemble.temperatures[0])
    return tested[0], scaled, together, ensemble.weights


def _error(table: pd.DataFrame) -> float:
    columns = [name for name in table if name.startswith("p_")]
    truth = pd.Categorical(table.label, [name.removeprefix("p_") for name in columns]).codes
    return calibration_error(table[columns].to_numpy(), truth.astype(np.int64))


TABLES = {
    "backbones": backbone_runs,
    "probes": probe_runs,
    "paired": against_the_probe,
    "fine_tunings": fine_tuning_runs,
    "ensemble": ensemble_runs,
    "starts": pretraining_gain,
    "recipes": recipe_runs,
}
