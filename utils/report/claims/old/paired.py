"""Every classifier against the linear probe on the same test images."""

import pandas as pd

from utils.evaluation.ablation import as_family
from utils.evaluation.paired import paired_difference
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import (
    BEST_PROBE,
    SPLIT_ORDER,
    WEIGHTS,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    tested,
)
from utils.report.claims.old.reported import ASKED

COMPARED = ("published", "cleaned", "patient", "random")


def against_the_probe(evidence: Evidence) -> pd.DataFrame:
    """A row a model and split: accuracy, and its difference to the linear probe's with interval and corrected p."""
    rows, compared = [], differences_to_probe(evidence)
    for record, found in compared:
        run = record["run"]
        rows.append(
            {
                "data set": run["dataset"],
                "target": run.get("target", "label"),
                "split": tested(record),
                "model": run["model"],
                "recipe": f"{run['recipe']}, {WEIGHTS[bool(run['pretrained'])]}" if record["recipe"] else "baseline",
                "pixels": run["image_size"],
                "accuracy %": format_ci(record["metrics"]["accuracy"]),
                "minus linear probe, points": format_ci(found, sign=True),
            }
        )
    table, p = pd.DataFrame(rows), [found["p_corrected"] for _, found in compared]
    return table.assign(**{"p, corrected": [f"{one:.3f}" if one >= 0.001 else "<.001" for one in p]})


def run_name(record: dict) -> str:
    """A run in a few words, for a figure."""
    run = record["run"]
    how = f"{run['recipe']}, {WEIGHTS[bool(run['pretrained'])]}, {run['image_size']} px"
    return f"{run['model']} ({how}) on {run['dataset']}{asked_for(run)}, {tested(record)}"


def asked_for(run: dict) -> str:
    """What a network was asked for, behind the name of its data set; "" for the label of the data set."""
    target = run.get("target", "label")
    return "" if target == "label" else f" ({ASKED[target]})"


def differences_to_probe(evidence: Evidence) -> list[tuple[dict, dict]]:
    """Every record that tested the same images as the probe, and its `paired_difference` to it with `p_corrected`.

    Runs of the first seed; the pooled record of all patient folds, or the first fold where others are missing. Runs on
    earlier folds tested other images than the probe, and are left out.
    """
    every = evidence.classifiers + evidence.transfer + evidence.multitask + evidence.localisation
    compared: list[tuple[dict, dict]] = []
    for record in sorted(every, key=_order):
        run = record["run"]
        same = {key: run[key] for key in ("dataset", "split", "fold")} | {"target": run.get("target", "label")}
        probe = find_run(evidence.classifiers, **same, model=BEST_PROBE)
        if run["split"] not in COMPARED or run["seed"] or run["fold"] or run["view"] != "stored" or record["old_folds"]:
            continue
        if not probe or run["model"] in (BEST_PROBE, "majority") or is_pooled_elsewhere(record, every):
            continue
        found = paired_difference(evidence.predictions(record), evidence.predictions(probe))
        compared += [(record, found)] if found else []  # none where a table was replaced and other images were tested
    family = as_family([found for _, found in compared])
    return [(record, found) for (record, _), found in zip(compared, family, strict=True)]


def _order(record: dict) -> tuple:
    run = record["run"]
    return run["dataset"], SPLIT_ORDER[run["split"]], run["fold"] or 0, -record["metrics"]["accuracy"]["value"]
