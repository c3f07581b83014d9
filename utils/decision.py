"""From probabilities to a diagnosis: tumour or not, and if so which; and what a clinic asks of the first question.

The threshold of "tumour" is chosen on validation pictures, never on those that are tested.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_sensitivity_at_specificity

from datasets import catalog
from datasets.catalog import DataError
from utils.evaluation import HEALTHY, group_intervals, number

S0_THRESHOLD = 0.5
SPECIFICITY = 0.95  # of every 20 healthy people one is sent on


def healthy_class(name: str) -> int:
    """Index of the class without a tumour of data set `name`; raises `DataError` where there is none."""
    classes = catalog.get(name).classes
    if HEALTHY not in classes:
        able = ", ".join(known for known, facts in catalog.CATALOG.items() if HEALTHY in facts.classes)
        raise DataError(f"'{name}' has no pictures without a tumour: nobody to tell from the sick. Take one of: {able}")
    return classes.index(HEALTHY)


def joint_probabilities(outputs: dict[str, Tensor], healthy: int) -> Tensor:
    """Probabilities B×K of all classes, from the outputs of a `MultiTaskUNet`.

    A kind of tumour has p(tumour)·p(kind | tumour), the class `healthy` (its index) has 1 − p(tumour).
    """
    if "classes" in outputs:
        return outputs["classes"].float().softmax(1)
    tumour = outputs["tumour"].float().sigmoid()[:, None]
    kinds = tumour * outputs["subtype"].float().softmax(1)
    return torch.cat([kinds[:, :healthy], 1 - tumour, kinds[:, healthy:]], dim=1)


def decide(probabilities: Tensor, healthy: int, threshold: float = S0_THRESHOLD) -> Tensor:
    """S0's rule on probabilities N×K: p(tumour) < `threshold` → `healthy`, else the likeliest tumour; class indices N.

    It is not the largest of the K: tumour .6, of three kinds alike, is a tumour although none of them reaches .4.
    """
    kinds = probabilities.clone()
    kinds[:, healthy] = -1
    return torch.where(1 - probabilities[:, healthy] < threshold, healthy, kinds.argmax(1))


def threshold_for(
    probabilities: np.ndarray, truth: np.ndarray, healthy: int, specificity: float = SPECIFICITY
) -> float:
    """The threshold with the highest sensitivity among those of at least `specificity`.

    Args:
        probabilities: N×K of validation pictures; truth: their class indices N.

    Returns:
        NaN where all pictures, or none, show a tumour.

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
    """Tumour or not, and its name, as S0 decided and at the threshold that validation chose.

    Args:
        predictions: from `evaluation.prediction_table`, with `predicted` by S0's rule, and `screened`, the class at the
            chosen threshold ("" where none could be chosen).

    Returns:
        {"S0": …, "validation": …}, each with `sensitivity`, `specificity` and `accuracy` (of all classes) as
        {value, low, high}; None for what cannot be computed.
    """
    label = predictions.label.to_numpy()
    tumour, found = label != HEALTHY, {}
    for name, column in (("S0", "predicted"), ("validation", "screened")):
        decided = predictions[column].astype(object).fillna("").to_numpy()
        if (decided == "").any():  # no threshold could be chosen; read back from a file it is NaN
            continue
        called, right = decided != HEALTHY, decided == label

        def statistic(rows: np.ndarray, called=called, right=right) -> np.ndarray:
            sick, fine = rows[tumour[rows]], rows[~tumour[rows]]
            return np.array([_mean(called[sick]), _mean(~called[fine]), _mean(right[rows])])

        values = statistic(np.arange(len(label)))
        low, high = group_intervals(predictions.group.to_numpy(), statistic, resamples, seed)
        found[name] = {
            metric: {"value": number(v), "low": number(lo), "high": number(hi)}
            for metric, v, lo, hi in zip(("sensitivity", "specificity", "accuracy"), values, low, high, strict=True)
        }
    return found


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan
