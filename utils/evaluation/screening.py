"""Screening, tumour or not, at a threshold that was chosen on validation images."""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_sensitivity_at_specificity

from datasets.catalog import HEALTHY, DataError
from utils.evaluation.classification import NOTHING, too_few
from utils.evaluation.intervals import grouped_bootstrap_ci, groups_with

SPECIFICITY = 0.95  # one false alarm among 20 healthy people


def threshold_for(
    probabilities: np.ndarray, truth: np.ndarray, healthy: int, specificity: float = SPECIFICITY
) -> float:
    """The threshold with the highest sensitivity among those of at least `specificity`.

    Args:
        probabilities: N×K of validation images; truth: their class indices N.

    Returns:
        NaN where all images, or none, show a tumour.

    Raises:
        DataError: a specificity that is not between 0 and 1.
    """
    if not 0 < specificity < 1:
        raise DataError(f"specificity={specificity}: a share between 0 and 1 is accepted, such as {SPECIFICITY}")
    tumour = truth != healthy
    if tumour.all() or not tumour.any():
        return np.nan
    score = torch.tensor(1 - probabilities[:, healthy], dtype=torch.float64)
    _, threshold = binary_sensitivity_at_specificity(score, torch.tensor(tumour).long(), specificity)
    return float(threshold)


def screening(predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> dict[str, dict]:
    """Sensitivity, specificity and accuracy by S0's rule and at the threshold that validation chose.

    Args:
        predictions: from `prediction_table`, with `predicted` by S0's rule, and `screened`, the class at the chosen
            threshold ("" where none could be chosen).

    Returns:
        {"S0": …, "validation": …}, each with `sensitivity`, `specificity` and `accuracy` (of all classes) as
        {value, low, high}; None for what cannot be computed.
    """
    label = predictions.label.to_numpy()
    tumour, groups, found = label != HEALTHY, predictions.group.to_numpy(), {}
    trials = _trials(groups, tumour) | {"accuracy": len(np.unique(groups))}
    for name, column in (("S0", "predicted"), ("validation", "screened")):
        decided = predictions[column].astype(object).fillna("").to_numpy()
        if (decided == "").any():  # no threshold could be chosen; read back from a file it is NaN
            continue
        called, right = decided != HEALTHY, decided == label

        def statistic(rows: np.ndarray, called=called, right=right) -> dict[str, float]:
            sick, fine = rows[tumour[rows]], rows[~tumour[rows]]
            rates = {"sensitivity": called[sick], "specificity": ~called[fine], "accuracy": right[rows]}
            return {metric: _mean(values) for metric, values in rates.items()}

        found[name] = grouped_bootstrap_ci(groups, statistic, resamples, seed, trials=trials)
    return found


def tumour_or_none(predictions: pd.DataFrame, threshold: float, resamples: int = 1000, seed: int = 0) -> dict:
    """Tumour or none at a threshold that was chosen before, on validation images of the training set.

    Args:
        predictions: from `classification.prediction_table`; 1 − p(no tumour) is the score, whatever the tumours' names.
        threshold: from `threshold_for`; NaN where validation could not choose one.

    Returns:
        `threshold`; `tumours` and `healthy`, the numbers of images; and `sensitivity`, `specificity` and `auc` as
        {value, low, high} over groups. A rate of fewer than `classification.FEWEST` images is None: it says nothing.
    """
    tumour = predictions.label.ne(HEALTHY).to_numpy()
    score = 1 - predictions[f"p_{HEALTHY}"].to_numpy()
    called = np.where(np.isnan(threshold), np.nan, score >= threshold)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        sick, fine = rows[tumour[rows]], rows[~tumour[rows]]
        both = len(sick) and len(fine)
        auc = roc_auc_score(tumour[rows], score[rows]) if both else np.nan
        return {"sensitivity": _mean(called[sick]), "specificity": _mean(1 - called[fine]), "auc": auc}

    groups = predictions.group.to_numpy()
    found = grouped_bootstrap_ci(groups, statistic, resamples, seed, trials=_trials(groups, tumour))
    counts = {"tumours": int(tumour.sum()), "healthy": int((~tumour).sum())}
    found |= dict.fromkeys(too_few(**counts), NOTHING)
    return {"threshold": None if np.isnan(threshold) else float(threshold)} | counts | found


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan


def _trials(groups: np.ndarray, tumour: np.ndarray) -> dict[str, int]:
    """In how many groups sensitivity, specificity and AUC are counted, for `intervals.of_share`."""
    sick, fine = groups_with(groups, tumour), groups_with(groups, ~tumour)
    return {"sensitivity": sick, "specificity": fine, "auc": min(sick, fine)}
