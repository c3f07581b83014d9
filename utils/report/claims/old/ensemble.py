"""What an ensemble of unlike networks gains: fine-tuned, linear probe, from scratch, named from its outline.

Temperature and weight of each are chosen on the validation images of its split, fold by fold, from the committed
predictions; the test images are only asked.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils.evaluation.ablation import as_family
from utils.evaluation.calibration import calibrated, calibration_error
from utils.evaluation.ensembling import choose
from utils.evaluation.intervals import mean_interval
from utils.evaluation.paired import paired_difference
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import (
    BEST_PROBE,
    NONE,
    SPLIT_ORDER,
    cell,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    tested,
)
from utils.report.records import BEST_RECIPE

FINE_TUNED = {"model": "ResNet50-v2", "recipe": BEST_RECIPE, "image_size": 224, "seed": 0}
OTHERS = ({"model": BEST_PROBE}, {"model": "CustomCNN", "recipe": "s2", "seed": 0})
OUTLINED = {"model": "OutlineClassifier", "recipe": "from-outline", "seed": 0}  # where it was trained on the split
ASKED = ("alone", "scaled", "all")  # the test images of a fold, asked of the fine-tuned network and of the ensemble
PARTS = ("dataset", "split", "fold", "test_on")


def ensembles(evidence: Evidence) -> list[dict]:
    """A data set and split each: the records of the `members` (fine-tuned first), the `weights` of each by fold, the
    `accuracy` of the ensemble, what it `gained` over the fine-tuned one alone (all of them one family, see
    `ablation.as_family`), and the `calibration` error of the fine-tuned one, of the same at its own temperature, and of
    the ensemble, whose members all have one: what scaling alone does is no merit of the ensemble.

    Only where all members kept their predictions of the same validation images and tested the same images. The network
    that is named from its outline joins where it was trained on all the same folds.
    """
    every = [r for r in evidence.transfer if FINE_TUNED.items() <= r["run"].items() and not r["old_folds"]]
    records = {record["id"]: record for record in evidence.records}
    found = []
    for record in sorted(every, key=lambda r: (r["run"]["dataset"], SPLIT_ORDER[r["run"]["split"]], r["id"])):
        if is_pooled_elsewhere(record, every):
            continue
        parts = [records[one] for one in record.get("pooled") or [record["id"]]]
        others = OTHERS + (OUTLINED,) * all(_beside(evidence, one, OUTLINED) for one in [record, *parts])
        folds = [_one_fold(evidence, one, others) for one in parts]
        if not all(folds):
            continue
        alone, scaled, together = (pd.concat([fold[name] for fold in folds], ignore_index=True) for name in ASKED)
        found.append(
            {
                "members": [record, *(_beside(evidence, record, who) for who in others)],
                "weights": [fold["ensemble"].weights for fold in folds],
                "accuracy": mean_interval(together.predicted == together.label, together.group),
                "gained": paired_difference(together, alone),
                "calibration": tuple(map(_error, (alone, scaled, together))),
            }
        )
    family = as_family([entry["gained"] for entry in found])
    return [entry | {"gained": gained} for entry, gained in zip(found, family, strict=True)]


def ensemble_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a data set and split: the ensemble, each member alone, its mean weight, and the calibration error."""
    rows = []
    for entry in ensembles(evidence):
        fine_tuned, probe, scratch, *outlined = entry["members"]
        weights = np.mean(entry["weights"], axis=0)
        errors = " → ".join(f"{100 * error:.1f}" for error in entry["calibration"])
        rows.append(
            {
                "data set": fine_tuned["run"]["dataset"],
                "split": tested(fine_tuned),
                "ensemble, accuracy %": format_ci(entry["accuracy"]),
                "ResNet50-v2, fine-tuned": cell(fine_tuned),
                "its linear probe": cell(probe),
                "CustomCNN": cell(scratch),
                "named from the outline": cell(outlined[0]) if outlined else NONE,
                "mean weights": " / ".join(f"{weight:.2f}" for weight in weights),
                "ensemble minus fine-tuned, points": format_ci(entry["gained"], sign=True),
                "calibration error %, fine-tuned → at its temperature → ensemble": errors,
            }
        )
    return pd.DataFrame(rows)


def _beside(evidence: Evidence, record: dict, who: dict) -> dict | None:
    """The run of another network on the split of `record`; None where it is missing or on earlier folds."""
    same = {key: record["run"][key] for key in PARTS}
    found = find_run(evidence.classifiers + evidence.localisation, **same, **who)
    return found if found and not found["old_folds"] else None


def _one_fold(evidence: Evidence, record: dict, others: Sequence[dict]) -> dict | None:
    """The members of one split, their ensemble, and the test images asked of the first as it is, of the first at its
    temperature, and of all; None where a member is missing, or was validated or tested on other images."""
    members = [record, *(_beside(evidence, record, who) for who in others)]
    if None in members:
        return None
    validated = [evidence.validation(member) for member in members]
    if any(table is None for table in validated):
        return None
    asked = [evidence.predictions(member) for member in members]
    validated, asked = ([t.sort_values("path", ignore_index=True) for t in tables] for tables in (validated, asked))
    if any(not t.path.equals(same[0].path) for same in (validated, asked) for t in same):
        return None
    columns = [name for name in validated[0] if name.startswith("p_")]
    if any(name not in asked[0] for name in columns):
        return None  # an external set that says less than these networks
    classes = np.array([name.removeprefix("p_") for name in columns])
    truth = pd.Categorical(validated[0].label, classes).codes
    ensemble = choose([table[columns].to_numpy() for table in validated], truth)
    probabilities = ensemble([table[columns].to_numpy() for table in asked])
    together, scaled = asked[0].assign(predicted=classes[probabilities.argmax(1)]), asked[0].copy()
    together[columns] = probabilities
    scaled[columns] = calibrated(asked[0][columns].to_numpy(), ensemble.temperatures[0])
    return {"members": members, "ensemble": ensemble, "alone": asked[0], "scaled": scaled, "all": together}


def _error(table: pd.DataFrame) -> float:
    columns = [name for name in table if name.startswith("p_")]
    truth = pd.Categorical(table.label, [name.removeprefix("p_") for name in columns]).codes
    return calibration_error(table[columns].to_numpy(), truth.astype(np.int64))
