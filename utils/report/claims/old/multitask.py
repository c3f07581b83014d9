"""Tables of S0's multi-task network: by split, its ablation, and the effect of loss balancing."""

import pandas as pd

from utils.evaluation.ablation import REFERENCE, budgets, compare, gradient_histories
from utils.recipes.published import published
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import (
    BEST_PROBE,
    NONE,
    SPLIT_ORDER,
    beside,
    cell,
    find_run,
    format_ci,
    is_pooled_elsewhere,
    mark,
    of_steps,
    sensitivity_specificity,
    tested,
    training_columns,
)


def multitask_runs(evidence: Evidence) -> pd.DataFrame:
    """One row a run of S0's own method, whole folds pooled: tumour type, tumour or none, and the nearest neighbour.

    A baseline stands beside a run that was split by the same folds only. Runs at `STEPS_AT` pixels are in `ablation`.
    """
    rows = []
    for record in sorted(evidence.multitask, key=lambda r: (r["run"]["dataset"], SPLIT_ORDER[r["run"]["split"]])):
        run, metrics = record["run"], record["metrics"]
        if run["recipe"] != REFERENCE or of_steps(run) or is_pooled_elsewhere(record, evidence.multitask):
            continue
        reported = published(REFERENCE, run["model"], run["dataset"], run["split"])
        same = {key: run[key] for key in ("dataset", "split", "fold")}
        probe = find_run(evidence.classifiers, **same, model=BEST_PROBE)
        nearest = find_run(evidence.classification, **same, model="1-NN")
        half, chosen_on_val = (record["screening"].get(name) for name in ("S0", "validation"))
        rows.append(
            {
                "data set": run["dataset"],
                "split": tested(record),
                "reported by S0": f"{100 * reported['accuracy']:.1f}" if reported else NONE,
                "accuracy": format_ci(metrics["accuracy"]),
                "linear probe": cell(beside(record, probe)),
                "1-NN": cell(beside(record, nearest)),
                "macro F1": format_ci(metrics["macro_f1"]),
                "tumour AUC": format_ci(metrics["tumour_auc"], percent=False),
                "sensitivity / specificity at .5": sensitivity_specificity(half),
                "at the threshold from validation": sensitivity_specificity(chosen_on_val),
                "AUC of the reconstruction error": format_ci(record["anomaly"]["tumour"], percent=False),
                "test images": record["images"],
                **training_columns(record),
            }
        )
    return pd.DataFrame(rows)


def ablation_runs(evidence: Evidence) -> pd.DataFrame:
    """S0's method with one part removed or exchanged, with the same epochs and seeds; a row a recipe."""
    rows = []
    for runs in budgets(evidence.multitask):
        found = compare(runs, evidence.predictions)
        for name in runs:
            (record, *_), entry = list(runs[name].values()), found[name]
            run, recipe = record["run"], record["recipe"]
            both = recipe["model_args"].get("reconstruct", True)
            rows.append(
                {
                    "data set": f"{run['dataset']}, {tested(record)}",
                    "recipe": name,
                    "reconstruction": "yes" if both else "no",
                    "heads": "two" if recipe["model_args"].get("hierarchical", True) else "one",
                    "balance": recipe["balance"] if both else NONE,
                    "validation %": f"{100 * entry['validation']:.1f}{mark(record)}",
                    "test accuracy %": format_ci(entry["accuracy"]) + mark(record),
                    "difference to S0's, points": ""
                    if name == REFERENCE
                    else format_ci(entry["difference"], sign=True) + mark(record),
                    "seeds from – to": f"{100 * min(entry['seeds']):.1f} – {100 * max(entry['seeds']):.1f}",
                    "seeds": len(entry["seeds"]),
                    **training_columns(record),
                }
            )
    return pd.DataFrame(rows)


def balance_effects(evidence: Evidence) -> pd.DataFrame:
    """Reconstruction against classification under each balance, first seed: median over the epochs of their weights'
    ratio and of that of their gradients at the encoder, without and with the weights."""
    rows = []
    for runs in budgets(evidence.multitask):
        for name, history in gradient_histories(runs, evidence.history).items():
            weight, gradient = (
                history[f"{of}_reconstruction"] / history[f"{of}_classification"] for of in ("weight", "gradient")
            )
            rows.append(
                {
                    "recipe": name + mark(next(iter(runs[name].values()))),
                    "weight of the reconstruction": f"{weight.median():.3g}",
                    "its gradient, unweighted": f"{gradient.median():.2g}",
                    "its gradient, weighted": f"{(weight * gradient).median():.2g}",
                    "reconstruction error, validation": f"{history.val_reconstruction.iloc[-1]:.5f}",
                }
            )
    return pd.DataFrame(rows)
