"""Tables of transfer learning: backbones, linear probes, recipes, seeds and ensembles."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils.evaluation.compare import corrected, difference, mean_score
from utils.evaluation.thresholds import calibrated, calibration_error, choose
from utils.recipes.ours import LONGER
from utils.report.records import BEST_RECIPE, PROBE, Evidence
from utils.report.tables import common as t
from utils.report.tables.common import BEST_PROBE, cells, matching, on_same_images

COMPARED = ("published", "cleaned", "patient", "random")
FINE_TUNED = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "seed": 0}
OTHERS = ({"title": BEST_PROBE}, {"title": "CustomCNN", "recipe": "s2", "seed": 0})
OUTLINED = {"model": "OutlineClassifier", "recipe": "from-outline", "seed": 0}  # where it was trained on the split


def pretraining_pairs(evidence: Evidence) -> list[pd.DataFrame]:
    """Runs that differ in their initial weights alone, two rows by `start`: "scratch" and "pretrained"."""
    runs = matching(evidence.runs, task="transfer", baseline=False)
    runs = runs.assign(start=runs.pretrained.map({True: "pretrained", False: "scratch"}))
    same = [*t.IMAGES, "model", "recipe", "image_size", "seed", "epochs"]
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
    return t.show_all(
        rows,
        "data set = dataset | split = tested | backbone = model | recipe | pixels = image_size | epochs | "
        "from scratch = scratch | pretrained = mean | gain by pretraining, points = gain | linear probe = probe | "
        "1-NN = nearest",
    )


def fine_tunings(evidence: Evidence) -> pd.DataFrame:
    """Fold 0 of ResNet50-v2 under each way to fine-tune it from its probe, the best `mean` validation accuracy first;
    only data sets where all of them were run."""
    of = {"model": "ResNet50-v2", "image_size": 224, "seed": 0, "tested": t.FOLD_0, "target": "label", "view": "stored"}
    ways, runs = ("probe-first", *LONGER), matching(evidence.runs, task="transfer", **of)
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


def differences_to_probe(evidence: Evidence) -> pd.DataFrame:
    """Every run of the first seed that tested the same images as the best linear probe, and as `difference` what it is
    better, corrected for the number of runs; `scan`: accuracy by whole scans, of runs by patient."""
    classes = matching(t.that_name_a_class(evidence.runs), is_pooled=False)
    runs = matching(t.some_folds(evidence, classes), seed=0, view="stored")
    runs = runs[runs.split.isin(COMPARED) & ~runs.title.isin((BEST_PROBE, "majority"))]
    some = runs.tested.str.endswith(" folds") & (runs.tested != t.ALL_FOLDS)
    among = runs.assign(tested=runs.tested.mask(some, t.ALL_FOLDS))
    runs = runs.assign(probe=on_same_images(evidence, among, BEST_PROBE).id, last=-runs.accuracy, some=some)
    runs = t.by_split(runs[runs.probe.notna()].assign(fold=runs.fold.fillna(0)), "dataset", "split", "fold", "last")
    found, scans, probes = [], [], {one: evidence.predictions(one) for one in set(runs.probe)}
    for _, run in runs.iterrows():
        tested, probe = t.tested_images(evidence, run), probes[run.probe]
        found.append(difference(tested, probe[probe.path.isin(tested.path)] if run.some else probe))
        scans.append(t.of_scans(tested) if run.split == "patient" else None)
    runs = runs.assign(difference=corrected(found), scan=scans)
    return runs[runs.difference.notna()]  # none where a table was replaced and other images were tested


def against_the_probe(evidence: Evidence) -> pd.DataFrame:
    """A row a model and split: accuracy, and its difference to the linear probe's with interval and corrected p."""
    runs = differences_to_probe(evidence)
    return t.show(
        runs.assign(how=[t.recipe_and_start(run) for _, run in runs.iterrows()], p=t.p_values(runs.difference)),
        "data set = dataset | target | split = tested | model = title | recipe = how | pixels = image_size | "
        "accuracy % = accuracy | whole scans % = scan | minus linear probe, points = difference | p, corrected = p",
    )


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


def _members(evidence: Evidence, run: pd.Series, others: Sequence[dict]) -> list[pd.Series]:
    """A run and those of other networks on its split; none where one is missing."""
    runs = matching(evidence.runs, dataset=run.dataset, tested=run.tested)
    runs = runs[(runs.task != "transfer") | runs.baseline]
    found = [run, *(t.find_run(runs, fold=None if pd.isna(run.fold) else run.fold, **who) for who in others)]
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
    temperatures, weights = choose(known, pd.Categorical(validated[0].label, classes).codes)
    cooled = [calibrated(each, temperature) for each, temperature in zip(asked, temperatures, strict=True)]
    probabilities = np.average(cooled, axis=0, weights=weights)
    together, scaled = tested[0].assign(predicted=classes[probabilities.argmax(1)]), tested[0].copy()
    together[columns], scaled[columns] = probabilities, cooled[0]
    return tested[0], scaled, together, weights


def _error(table: pd.DataFrame) -> float:
    columns = [name for name in table if name.startswith("p_")]
    truth = pd.Categorical(table.label, [name.removeprefix("p_") for name in columns]).codes
    return calibration_error(table[columns].to_numpy(), truth.astype(np.int64))


TABLES = {
    "paired": against_the_probe,
    "fine_tunings": fine_tuning_runs,
    "starts": pretraining_gain,
}
