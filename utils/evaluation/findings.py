"""Evaluates a model of several findings an image: AUC and average precision of each, thresholds from validation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from datasets.store.index import read_manifest
from utils.evaluation.classification import area_under_roc, groups_ranked
from utils.evaluation.intervals import as_record, grouped_ci, groups_with
from utils.training.data import RunData

AGE = 50  # years, which divide subgroups
METRICS = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1")


def findings_table(data: RunData, probs: np.ndarray, thresholds: np.ndarray) -> pd.DataFrame:
    """A row a test image: path, group (its patient), and for every finding `y_FINDING` (shown: 0 or 1), `p_FINDING` and
    `called_FINDING` (0 or 1; empty where validation could choose no threshold). `probs`: N×K, in the order of the test
    images; `thresholds`: K, from `thresholds_for`."""
    split, shown = data.split, data.test.labels.numpy().astype(int)
    table = {"path": read_manifest(split.test_set).path.iloc[split.test].to_numpy(), "group": split.test_groups}
    for k, finding in enumerate(data.test_classes):
        called = np.where(np.isnan(thresholds[k]), np.nan, probs[:, k] >= thresholds[k])
        table |= {f"y_{finding}": shown[:, k], f"p_{finding}": probs[:, k].astype(np.float32)}
        table[f"called_{finding}"] = pd.array(called, dtype="Int64")
    return pd.DataFrame(table)


def thresholds_for(probs: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The threshold of each finding with the highest F1 on validation images, N×K probabilities and N×K of 0 and 1; NaN
    for one that none or all show."""
    found = np.full(probs.shape[1], np.nan)
    for k in range(probs.shape[1]):
        if 0 < shown[:, k].sum() < len(shown):
            precision, recall, thresholds = precision_recall_curve(shown[:, k], probs[:, k])
            both = precision[:-1] + recall[:-1]
            f1 = np.divide(2 * precision[:-1] * recall[:-1], both, out=np.zeros_like(both), where=both > 0)
            found[k] = thresholds[f1.argmax()]
    return found


def evaluate_findings(
    predictions: pd.DataFrame, findings: Sequence[str], resamples: int = 1000, fold: Sequence[int] | None = None
) -> dict:
    """Every metric of each finding, and their means over the findings that the test set can judge.

    `predictions`: from `findings_table`. `fold`: of each row, where folds are joined; the AUC then ranks within folds
    only. Average precision stays that of all images: of few, a random order exceeds its share.

    Returns:
        `per_class` {finding: {METRIC: {value, low, high}, "images": n that show it}}, None for what cannot be computed;
        `metrics` {macro_METRIC: …}; `images`, `groups` and `resamples`. A random order has AUC .5 and as average
        precision the share of images that show it.
    """
    columns = [predictions[[f"{kind}_{f}" for f in findings]] for kind in ("y", "p", "called")]
    shown, probs, called = (table.to_numpy(dtype=float, na_value=np.nan) for table in columns)
    groups, fold = predictions.group.to_numpy(), np.zeros(len(shown)) if fold is None else np.asarray(fold)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        of_each = [_of_one(shown[rows, k] == 1, probs[rows, k], called[rows, k], fold[rows]) for k in ordinals]
        each = pd.DataFrame(of_each, columns=METRICS, dtype=float)  # NaN for what cannot be computed
        return dict(zip(names, (*each.mean(), *each.to_numpy().ravel()), strict=True))

    ordinals = range(len(findings))
    names = [f"macro_{metric}" for metric in METRICS] + [f"{k}.{metric}" for k in ordinals for metric in METRICS]
    trials = {}  # in how many groups each metric that is a share is counted
    for k in ordinals:
        positive, alarm = shown[:, k] == 1, called[:, k] == 1
        masks = {"sensitivity": positive, "specificity": ~positive, "precision": alarm, "f1": positive}
        masks["average_precision"] = positive
        trials |= {f"{k}.{metric}": groups_with(groups, rows) for metric, rows in masks.items()}
        trials[f"{k}.auc"] = groups_ranked(groups, positive, fold)
    for metric in METRICS:
        trials[f"macro_{metric}"] = min(filter(None, (trials[f"{k}.{metric}"] for k in ordinals)), default=0)
    found = grouped_ci(groups, statistic, resamples, trials=trials)
    return as_record(found, findings, {"images": shown.sum(0)}, predictions, resamples)


def by_subgroup(
    predictions: pd.DataFrame, manifest: pd.DataFrame, findings: Sequence[str], resamples: int = 1000
) -> dict[str, dict]:
    """The mean AUC {value, low, high} of each sex and of younger and older patients, with its `images`; of a set whose
    `manifest` has no columns `sex` and `age` none. A mean is over the findings that the subgroup can judge."""
    known = manifest.set_index("path").reindex(predictions.path).reset_index()
    parts = {f"sex {sex}": known.sex == sex for sex in sorted(set(known.get("sex", ())) - {""})}
    if "age" in known:
        age = known.age.astype(str).str.extract(r"(\d+)")[0].astype(float)  # Kaggle's sample writes 060Y
        parts |= {f"younger than {AGE}": age < AGE, f"{AGE} and older": age >= AGE}
    found = {}
    for name, rows in parts.items():
        if rows.any():
            result = evaluate_findings(predictions[rows.to_numpy()], findings, resamples)
            found[name] = result["metrics"]["macro_auc"] | {"images": result["images"]}
    return found


def _of_one(positive: np.ndarray, probs: np.ndarray, called: np.ndarray, fold: np.ndarray) -> dict[str, float]:
    """The metrics of one finding that can be computed: none where no image or every image shows it."""
    if not 0 < positive.sum() < len(positive):
        return {}
    found = {"auc": area_under_roc(positive[:, None], probs[:, None], fold).item()}
    found["average_precision"] = average_precision_score(positive, probs)
    if np.isnan(called).any():  # no threshold is known
        return found
    hits, alarms = (called * positive).sum(), called.sum()
    return found | {
        "sensitivity": hits / positive.sum(),
        "specificity": (1 - called)[~positive].mean(),
        "precision": hits / alarms if alarms else 0.0,
        "f1": 2 * hits / (alarms + positive.sum()),
    }
