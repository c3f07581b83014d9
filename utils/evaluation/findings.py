"""What a model of several findings is worth: AUC and average precision of each, thresholds from validation.

Intervals are those of `intervals.py`, over patients.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from datasets.store.index import read_manifest
from utils.evaluation.intervals import grouped_bootstrap_ci, groups_with
from utils.evaluation.ranking import area_under_roc, groups_ranked
from utils.training.data import RunData

RANKED = ("auc", "average_precision")
DECIDED = ("sensitivity", "specificity", "precision", "f1")


def findings_table(data: RunData, probs: np.ndarray, thresholds: np.ndarray) -> pd.DataFrame:
    """A row a test image: path, group (its patient), and for every finding `y_FINDING` (shown: 0 or 1), `p_FINDING` and
    `called_FINDING` (0 or 1; empty where validation could choose no threshold).

    Args:
        probs: N×K of the test images, in their order; thresholds: K, from `thresholds_for`.
    """
    split, shown = data.split, data.test.labels.numpy().astype(int)
    table = {"path": read_manifest(split.test_set).path.iloc[split.test].to_numpy(), "group": split.test_groups}
    for k, finding in enumerate(data.test_classes):
        called = np.where(np.isnan(thresholds[k]), np.nan, probs[:, k] >= thresholds[k])
        table |= {f"y_{finding}": shown[:, k], f"p_{finding}": probs[:, k].astype(np.float32)}
        table[f"called_{finding}"] = pd.array(called, dtype="Int64")
    return pd.DataFrame(table)


def thresholds_for(probs: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The threshold of each finding with the highest F1 on validation images, K; NaN for one that none or all show.

    Args:
        probs: N×K of validation images; shown: N×K of 0 and 1.
    """
    found = np.full(probs.shape[1], np.nan)
    for k in range(probs.shape[1]):
        if 0 < shown[:, k].sum() < len(shown):
            precision, recall, thresholds = precision_recall_curve(shown[:, k], probs[:, k])
            both = precision[:-1] + recall[:-1]
            f1 = np.divide(2 * precision[:-1] * recall[:-1], both, out=np.zeros_like(both), where=both > 0)
            found[k] = thresholds[f1.argmax()]
    return found


def evaluate_findings(
    predictions: pd.DataFrame,
    findings: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    fold: Sequence[int] | None = None,
) -> dict:
    """Every metric of each finding, and their means over the findings that the test set can judge.

    Args:
        predictions: from `findings_table`, or read back from `predictions.csv.gz`.
        fold: of each row, where folds are joined. The AUC then ranks within folds only (`ranking.py`), and groups are
            drawn within folds. The average precision stays that of all images: within a fold with few of them, a random
            order exceeds their share.

    Returns:
        `per_class` {finding: {auc, average_precision, sensitivity, specificity, precision, f1: {value, low, high},
        "images": n that show it}}, None for what cannot be computed; `metrics` {macro_METRIC: …}; `images`, `groups`
        and `resamples`. A random order has AUC .5 and as average precision the share of images that show it.
    """
    shown = predictions[[f"y_{f}" for f in findings]].to_numpy()
    probs = predictions[[f"p_{f}" for f in findings]].to_numpy()
    called = predictions[[f"called_{f}" for f in findings]].to_numpy(dtype=float, na_value=np.nan)
    groups, fold = predictions.group.to_numpy(), np.zeros(len(shown)) if fold is None else np.asarray(fold)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        return _metrics(shown[rows], probs[rows], called[rows], fold[rows])

    trials = _trials(groups, shown, called, fold)
    full = grouped_bootstrap_ci(groups, statistic, resamples, seed, trials=trials, strata=fold)
    per_class = {
        f: {metric: full[f"{k}.{metric}"] for metric in (*RANKED, *DECIDED)} | {"images": int(shown[:, k].sum())}
        for k, f in enumerate(findings)
    }
    return {
        "metrics": {name: entry for name, entry in full.items() if "." not in name},
        "per_class": per_class,
        "images": len(predictions),
        "groups": int(predictions.group.nunique()),
        "resamples": resamples,
    }


def _metrics(shown: np.ndarray, probs: np.ndarray, called: np.ndarray, fold: np.ndarray) -> dict[str, float]:
    """`K.METRIC` of each finding and `macro_METRIC`, the mean of what is not NaN."""
    each = [_of_one(shown[:, k], probs[:, k], called[:, k], fold) for k in range(shown.shape[1])]
    means = {}
    for metric in (*RANKED, *DECIDED):
        values = np.array([found[metric] for found in each])
        means[f"macro_{metric}"] = np.nan if np.isnan(values).all() else np.nanmean(values)
    return means | {f"{k}.{metric}": value for k, found in enumerate(each) for metric, value in found.items()}


def _of_one(shown: np.ndarray, probs: np.ndarray, called: np.ndarray, fold: np.ndarray) -> dict[str, float]:
    """The metrics of one finding; NaN where no image or every image shows it, or no threshold is known."""
    positive = shown == 1
    if not 0 < positive.sum() < len(shown):
        return dict.fromkeys((*RANKED, *DECIDED), np.nan)
    auc = area_under_roc(positive[:, None], probs[:, None], fold).item()
    found = {"auc": auc, "average_precision": average_precision_score(shown, probs)}
    if np.isnan(called).any():
        return found | dict.fromkeys(DECIDED, np.nan)
    hits, alarms = (called * positive).sum(), called.sum()
    sensitivity, precision = hits / positive.sum(), hits / alarms if alarms else 0.0
    return found | {
        "sensitivity": sensitivity,
        "specificity": (1 - called)[~positive].mean(),
        "precision": precision,
        "f1": 2 * hits / (alarms + positive.sum()),
    }


def _trials(groups: np.ndarray, shown: np.ndarray, called: np.ndarray, fold: np.ndarray) -> dict[str, int]:
    """In how many groups each metric that is a share is counted, for `intervals.of_share`."""
    found = {}
    for k in range(shown.shape[1]):
        positive, alarm = shown[:, k] == 1, called[:, k] == 1
        masks = {"sensitivity": positive, "specificity": ~positive, "precision": alarm, "f1": positive}
        found |= {f"{k}.{metric}": groups_with(groups, rows) for metric, rows in masks.items()}
        found[f"{k}.auc"] = groups_ranked(groups, positive, fold)
    return found
