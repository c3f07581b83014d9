"""Evaluates a segmenter patient by patient: every metric of a mask table with a 95 % CI.

The table is that of `mask_predictions.py`. Metrics of counts are MONAI's, intervals those of `intervals.py`.

**Pooling.** The unit is the patient: counts of all slices are added, then the metric is computed, then patients are
averaged. S2 added the counts of a batch of 32 slices, left out channels empty in both, and averaged batches; its result
is reported beside ours as `s2_pooling`. There large tumours count more, and false alarms on healthy slices hardly.

**Empty masks**, of a patient or, for distances in single slices, of a slice (`EMPTY`):

| | Dice, IoU | precision | recall, FNR | HD95 |
|---|---|---|---|---|
| truth and prediction empty | 1 | left out | left out | 0 |
| truth empty alone | 0 | 0 | left out | diagonal of the image or volume |
| prediction empty alone | 0 | left out | 0, 1 | diagonal |
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from utils.evaluation.intervals import grouped_bootstrap_ci, number
from utils.evaluation.mask_predictions import S2_BATCH

# Our name → MONAI's, of the metrics that follow from counts of pixels.
COUNTED = {
    "dice": "f1 score",
    "iou": "threat score",
    "accuracy": "accuracy",
    "fpr": "fall out",
    "fnr": "miss rate",
    "precision": "precision",
    "recall": "sensitivity",
}
METRICS = (*COUNTED, "hd95")
EMPTY = {"dice": 1.0, "iou": 1.0}  # value where truth and prediction are empty; other metrics are left out


def from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The `COUNTED` metrics of arrays of pixel counts; NaN for what the rule of empty masks leaves out.

    Dice = 2·tp / (2·tp + fp + fn), IoU = tp / (tp + fp + fn), precision = tp / (tp + fp), recall = tp / (tp + fn).
    """
    from monai.metrics.confusion_matrix import compute_confusion_matrix_metric  # here: it takes seconds to import

    counts = np.stack([tp, fp, pixels - tp - fp - fn, fn], axis=-1)
    confusion = torch.as_tensor(counts, dtype=torch.float64)
    values = {ours: compute_confusion_matrix_metric(theirs, confusion).numpy() for ours, theirs in COUNTED.items()}
    empty = np.asarray(tp + fp + fn) == 0
    return values | {name: np.where(empty, value, values[name]) for name, value in EMPTY.items()}


def by_patient(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row a patient: patient, group, and for every name its metrics and `NAME.pixels`, the true mask's size."""
    columns = [f"{name}.{count}" for name in names for count in ("tp", "fp", "fn")]
    patients = table.groupby("patient", sort=True)
    sums, out = patients[["pixels", *columns]].sum(), {"group": patients.group.first()}
    for name in names:
        counts = [sums[f"{name}.{count}"].to_numpy() for count in ("tp", "fp", "fn")]
        values = from_counts(*counts, sums.pixels.to_numpy())
        out |= {f"{name}.{metric}": pd.Series(value, sums.index) for metric, value in values.items()}
        out[f"{name}.hd95"] = patients[f"{name}.hd95"].mean()
        out[f"{name}.pixels"] = sums[f"{name}.tp"] + sums[f"{name}.fn"]
    return pd.DataFrame(out).reset_index()


def s2_pooling(table: pd.DataFrame, channels: Sequence[str], batch: int = S2_BATCH) -> dict[str, float | None]:
    """S2's way: counts of a batch of slices added, channels empty in both left out, batches and channels averaged."""
    number_of_batch = np.arange(len(table)) // batch
    scores = {metric: [] for metric in COUNTED}
    for name in channels:
        columns = [f"{name}.tp", f"{name}.fp", f"{name}.fn"]
        sums = table[[*columns, "pixels"]].groupby(number_of_batch).sum()
        sums = sums[sums[columns].sum(axis=1) > 0]
        for metric, values in from_counts(*(sums[c].to_numpy() for c in (*columns, "pixels"))).items():
            scores[metric].append(values)
    means = {metric: [np.nanmean(v) for v in values if np.isfinite(v).any()] for metric, values in scores.items()}
    return {metric: number(np.mean(values)) if values else None for metric, values in means.items()}


def size_correlation(patients: pd.DataFrame, name: str, resamples: int = 1000, seed: int = 0) -> dict:
    """Spearman's rank correlation between the Dice of mask `name` and its size, over the patients who have it.

    Args:
        patients: from `by_patient`.

    Returns:
        {value, low, high} with a 95 % interval over groups; None where Dice or size is the same for all.
    """
    there = patients[patients[f"{name}.pixels"] > 0]
    size, dice = (there[f"{name}.{column}"].to_numpy(float) for column in ("pixels", "dice"))

    def statistic(rows: np.ndarray) -> dict[str, float]:
        varied = np.ptp(size[rows]) > 0 and np.ptp(dice[rows]) > 0
        return {"rank": spearmanr(size[rows], dice[rows]).statistic if varied else np.nan}

    if len(there) < 2:
        return {"value": None, "low": None, "high": None}
    return grouped_bootstrap_ci(there.group, statistic, resamples, seed)["rank"]


def evaluate_masks(
    table: pd.DataFrame, channels: Sequence[str], regions: Sequence[str] = (), resamples: int = 1000, seed: int = 0
) -> dict:
    """Every metric of a mask table with its interval, drawn by resampling groups of patients.

    Args:
        table: from `mask_table`, or read back from `predictions.csv.gz`.
        channels, regions: the mask's channels, and what unites some of them.

    Returns:
        `metrics` {metric: {value, low, high}}, the mean over channels of the mean over patients;
        `per_class` {channel or region: {metric: {value, low, high}, "patients": with such a mask}};
        `s2_pooling` {metric: value}; `images`, `patients`, `groups`, `resamples`.
    """
    names = [*channels, *regions]
    patients = by_patient(table, names)
    columns = [f"{name}.{metric}" for name in names for metric in METRICS]
    scores = patients[columns].to_numpy()

    def statistic(rows: np.ndarray) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw of patients without any such mask has no recall
            each = np.nanmean(scores[rows], axis=0)
            overall = np.nanmean(each.reshape(len(names), len(METRICS))[: len(channels)], axis=0)
        return dict(zip([*METRICS, *columns], [*overall, *each], strict=True))

    found = grouped_bootstrap_ci(patients.group, statistic, resamples, seed)
    return {
        "metrics": {metric: found[metric] for metric in METRICS},
        "per_class": {
            name: {metric: found[f"{name}.{metric}"] for metric in METRICS}
            | {"patients": int((patients[f"{name}.pixels"] > 0).sum())}
            for name in names
        },
        "s2_pooling": s2_pooling(table, channels),
        "images": len(table),
        "patients": len(patients),
        "groups": int(patients.group.nunique()),
        "resamples": resamples,
    }
