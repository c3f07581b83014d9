"""Tables of transfer learning: backbones, pretrained against from scratch, recipes."""

import statistics

import pandas as pd

from utils.evaluation.ablation import compare
from utils.recipes import RECIPES
from utils.recipes.ours import LONGER
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import (
    NONE,
    SPLIT_ORDER,
    WEIGHTS,
    beside,
    cell,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    mark,
    minutes,
    split_words,
    tested,
)
from utils.report.records import PROBE


def backbone_runs(evidence: Evidence) -> pd.DataFrame:
    """One row a backbone, its initial weights and its recipe, on one data set: size, time, accuracy by patient.

    Runs that `recipe_runs` compares with ours are left out.
    """
    beside = {
        r["id"] for runs in on_one_budget(evidence) for name in runs for r in runs[name].values() if name != "ours"
    }
    rows = {}
    for record in evidence.transfer:
        run, recipe = record["run"], record["recipe"]
        if record["id"] in beside or is_pooled_elsewhere(record, evidence.transfer) or run["fold"]:
            continue  # of folds that are not all there the first stands for them
        if run.get("target", "label") != "label":
            continue
        if run["split"] == "published" or run["split"] == "patient":
            key = (run["dataset"], run["model"], run["pretrained"], run["recipe"], run["image_size"], recipe["epochs"])
            rows.setdefault(key, {})[run["split"]] = record
    return pd.DataFrame(
        {
            "data set": dataset,
            "backbone": model,
            "weights": WEIGHTS[pretrained],
            "recipe": recipe,
            "pixels": pixels,
            "epochs": max(r["training"]["epochs"] for r in pair.values()),
            "parameters": f"{next(iter(pair.values()))['parameters'] / 1e6:.1f} M",
            "unfrozen": f"{next(iter(pair.values()))['trainable'] / 1e6:.1f} M",
            "minutes a training": " / ".join(minutes(pair.get(split)) for split in ("published", "patient")),
            "published split": cell(pair.get("published")),
            "macro F2, AUC there": _f2_and_auc(pair.get("published")),
            "by patient": cell(pair.get("patient")),
            "F2, AUC by patient": _f2_and_auc(pair.get("patient")),
            "tested": tested(pair["patient"]) if "patient" in pair else NONE,
            "reported": _reported(pair),
        }
        for (dataset, model, pretrained, recipe, pixels, _), pair in sorted(rows.items(), key=_best_by_patient)
    )


def probe_runs(evidence: Evidence) -> pd.DataFrame:
    """Linear probes, a row a data set, target, backbone and input size: accuracy under each protocol, and 1-NN by
    patient, where the probe was split by the same folds."""
    rows: dict[tuple, dict[str, str]] = {}
    by_patient: dict[tuple, dict] = {}
    for record in sorted(evidence.probes, key=lambda r: SPLIT_ORDER[r["run"]["split"]]):
        run = record["run"]
        if is_pooled_elsewhere(record, evidence.probes):
            continue
        key = (run["dataset"], run.get("target", "label"), run["model"], run["image_size"])
        rows.setdefault(key, {})[split_words(run)] = cell(record)
        by_patient |= {key: record} if run["split"] == "patient" else {}
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = []
    for (dataset, target, model, pixels), row in sorted(rows.items()):
        of = {"dataset": dataset, "target": target, "split": "patient", "fold": None, "model": "1-NN"}
        nearest = beside(by_patient.get((dataset, target, model, pixels)), find_run(evidence.classification, **of))
        table.append(
            {"data set": dataset, "target": target, "backbone": model, "pixels": pixels}
            | {name: row.get(name, NONE) for name in columns}
            | {"1-NN by patient": cell(nearest)}
        )
    return pd.DataFrame(table)


def _best_by_patient(item: tuple) -> tuple:
    key, pair = item
    shown = pair.get("patient", pair.get("published"))
    return key[0], "patient" not in pair, -shown["metrics"]["accuracy"]["value"]


def _f2_and_auc(record: dict | None) -> str:
    return f"{cell(record, 'macro_f2')}, {format_ci(record['metrics']['macro_auc'], percent=False)}" if record else NONE


def _reported(pair: dict[str, dict]) -> str:
    published = (pair.get("published") or {}).get("published")
    return f"{100 * published['accuracy']:.1f}" if published else NONE


def pretraining_pairs(evidence: Evidence) -> list[dict[str, dict]]:
    """Runs that differ in their initial weights alone, on the same folds, as {"scratch": record, "pretrained": record};
    folds pooled where all are there."""
    found: dict[tuple, dict[str, dict]] = {}
    for record in evidence.transfer:
        run = record["run"]
        same = tuple(run[k] for k in ("dataset", "split", "fold", "model", "recipe", "image_size", "seed"))
        same += (run.get("target", "label"), run["test_on"], record["training"]["epochs"], mark(record))
        found.setdefault(same, {})["pretrained" if run["pretrained"] else "scratch"] = record
    return [pair for pair in found.values() if len(pair) == 2]


def pretraining_gain(evidence: Evidence) -> pd.DataFrame:
    """Pretrained against from scratch, same backbone, recipe and images: each, and the difference image by image."""
    rows = []
    for pair in pretraining_pairs(evidence):
        run = pair["pretrained"]["run"]
        if all(is_pooled_elsewhere(record, evidence.transfer) for record in pair.values()):
            continue
        found = compare(
            {start: {0: record} for start, record in pair.items()}, evidence.predictions, reference="scratch"
        )
        same = {key: run[key] for key in ("dataset", "split", "fold", "test_on")}
        same["target"] = run.get("target", "label")
        probe = find_run(evidence.classifiers, model=f"{PROBE} {run['model']}", **same)
        nearest = find_run(evidence.classification, model="1-NN", **same)
        old = mark(pair["pretrained"])
        rows.append(
            {
                "data set": run["dataset"],
                "split": tested(pair["pretrained"]),
                "backbone": run["model"],
                "recipe": run["recipe"],
                "pixels": run["image_size"],
                "epochs": pair["pretrained"]["training"]["epochs"],
                "from scratch": format_ci(found["scratch"]["accuracy"]) + old,
                "pretrained": format_ci(found["pretrained"]["accuracy"]) + old,
                "gain by pretraining, points": format_ci(found["pretrained"]["difference"], sign=True) + old,
                "linear probe": cell(beside(pair["pretrained"], probe)),
                "1-NN": cell(beside(pair["pretrained"], nearest)),
            }
        )
    return pd.DataFrame(rows)


def on_one_budget(evidence: Evidence) -> list[dict[str, dict[int, dict]]]:
    """Pretrained runs that differ in the recipe alone, `ours` among them, on one patient fold, the present or the
    earlier one: recipe → seed → record."""
    found: dict[tuple, dict[str, dict[int, dict]]] = {}
    for record in evidence.transfer:
        run = record["run"]
        if run["split"] == "patient" and run["fold"] is not None and run["pretrained"] and run["seed"] == 0:
            key = (run["dataset"], run["fold"], run["model"], run["image_size"], mark(record))
            found.setdefault(key, {})[run["recipe"]] = {run["seed"]: record}
    return [
        {name: runs[name] for name in RECIPES if name in runs}
        for _, runs in sorted(found.items())
        if "ours" in runs and len(runs) > 2
    ]


def fine_tunings(evidence: Evidence) -> dict[str, dict[str, dict]]:
    """Fold 0 of ResNet50-v2 under each way to fine-tune it from its probe: recipe → data set → record, the best by mean
    validation accuracy first; only data sets where all of them were run."""
    found: dict[str, dict[str, dict]] = {}
    for name in ("probe-first", *LONGER):
        of = {"model": "ResNet50-v2", "recipe": name, "image_size": 224, "split": "patient", "fold": 0, "seed": 0}
        for dataset in dict.fromkeys(r["run"]["dataset"] for r in evidence.transfer):
            record = find_run(evidence.transfer, dataset=dataset, **of)
            if record and not record["old_folds"]:
                found.setdefault(name, {})[dataset] = record
    common = set.intersection(*(set(runs) for runs in found.values())) if len(found) > len(LONGER) else set()
    kept = {name: {d: runs[d] for d in sorted(common)} for name, runs in found.items() if common}
    return dict(sorted(kept.items(), key=lambda item: -mean_validation(item[1])))


def mean_validation(runs: dict[str, dict]) -> float:
    """Validation accuracy, the mean over data sets."""
    return statistics.mean(record["training"]["val_accuracy"] for record in runs.values())


def fine_tuning_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a way to fine-tune ResNet50-v2: accuracy on the validation patients of fold 0, which chose, and on its test
    patients, which did not."""
    rows = []
    for name, runs in fine_tunings(evidence).items():
        record = next(iter(runs.values()))
        validated = {f"{d}, validation %": f"{100 * r['training']['val_accuracy']:.1f}" for d, r in runs.items()}
        rows.append(
            {
                "recipe": name,
                "epochs": record["training"]["epochs"],
                "unfrozen": f"{record['trainable'] / 1e6:.1f} M",
                "augmentation": record["recipe"]["augmentation"],
                **validated,
                "mean": f"{100 * mean_validation(runs):.1f}",
                **{f"{d}, test %": cell(r) for d, r in runs.items()},
            }
        )
    return pd.DataFrame(rows)


def recipe_runs(evidence: Evidence) -> pd.DataFrame:
    """The recipes of S0, S1, S3, S4, ours and its ingredients on one patient fold, sorted by validation accuracy."""
    rows = []
    for runs in on_one_budget(evidence):
        found = compare(runs, evidence.predictions, reference="ours")
        for name in sorted(found, key=lambda name: -found[name]["validation"]):
            (record,), entry = runs[name].values(), found[name]
            run, tta = record["run"], record.get("tta")
            rows.append(
                {
                    "data set": f"{run['dataset']}, {tested(record)}",
                    "backbone": f"{run['model']}, {WEIGHTS[run['pretrained']]}",
                    "recipe": name,
                    "pixels": run["image_size"],
                    "epochs": record["training"]["epochs"],
                    "unfrozen": f"{record['trainable']:,}",
                    "validation %": f"{100 * entry['validation']:.1f}{mark(record)}",
                    "test accuracy %": format_ci(entry["accuracy"]) + mark(record),
                    "difference to ours, points": ""
                    if name == "ours"
                    else format_ci(entry["difference"], sign=True) + mark(record),
                    "gain by TTA, points": format_ci(tta["gain"], sign=True) + mark(record) if tta else NONE,
                }
            )
    return pd.DataFrame(rows)
