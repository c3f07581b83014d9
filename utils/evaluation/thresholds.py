"""What is chosen on validation images after training: the threshold of a tumour, a temperature, weights of networks.

One temperature T makes probabilities mean what they say (Guo et al. 2017, arXiv:1706.04599). The softmax of logits
divided by T is the probabilities to the power 1/T, scaled to sum to 1; so it serves networks of several heads, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import binary_sensitivity_at_specificity, multiclass_calibration_error

from datasets.catalog import HEALTHY, DataError
from utils.evaluation.classification import CALIBRATION_BINS, NOTHING, area_under_roc, too_few
from utils.evaluation.intervals import Interval, grouped_ci, groups_with

SPECIFICITY = 0.95  # one false alarm among 20 healthy people
TEMPERATURES = (0.05, 20.0)  # limits
FLOOR = 1e-12  # a probability that was rounded to 0
STEPS = 10  # of a weight, from 0 to 1


def threshold_for(
    probabilities: np.ndarray, truth: np.ndarray, healthy: int, specificity: float = SPECIFICITY
) -> float:
    """The threshold with the highest sensitivity among those of at least `specificity`; NaN where all images, or none,
    show a tumour. `probabilities`: N×K of validation images; `truth`: their class indices N.

    Raises:
        DataError: a specificity that is not between 0 and 1.
    """
    if not 0 < specificity < 1:
        raise DataError(f"specificity={specificity}: a share between 0 and 1 is accepted, such as {SPECIFICITY}")
    tumour = truth != healthy
    if tumour.all() or not tumour.any():
        return np.nan
    score = torch.tensor(1 - probabilities[:, healthy], dtype=torch.float64)
    return float(binary_sensitivity_at_specificity(score, torch.tensor(tumour).long(), specificity)[1])


def screening(predictions: pd.DataFrame, resamples: int = 1000) -> dict[str, dict]:
    """`sensitivity`, `specificity` and `accuracy` (of all classes) with intervals, by S0's rule ("S0", from the column
    `predicted`) and at the threshold that validation chose ("validation", from `screened`, which is "", or NaN when
    read from a file, where none could be chosen)."""
    found, groups = {}, predictions.group
    for name, column in (("S0", "predicted"), ("validation", "screened")):
        decided = predictions[column].astype(object).fillna("")
        if not decided.eq("").any():
            called, right = decided.ne(HEALTHY).to_numpy(float), decided.eq(predictions.label).to_numpy()
            accuracy = "accuracy", lambda rows, right=right: right[rows].mean(), groups.nunique()
            found[name] = _rates(groups, predictions.label.ne(HEALTHY).to_numpy(), called, *accuracy, resamples)
    return found


def tumour_or_none(predictions: pd.DataFrame, threshold: float, resamples: int = 1000) -> dict:
    """Tumour or none by the score 1 − p(no tumour), at a threshold from validation images; NaN where they gave none.

    Returns:
        `threshold`; `tumours` and `healthy`, the numbers of images; and `sensitivity`, `specificity` and `auc` as
        {value, low, high} over groups. A rate of fewer than `classification.FEWEST` images is None: it says nothing.
    """
    tumour, score = predictions.label.ne(HEALTHY).to_numpy(), 1 - predictions[f"p_{HEALTHY}"].to_numpy()
    unknown = np.isnan(threshold)

    def auc(rows: np.ndarray) -> float:
        return area_under_roc(tumour[rows, None], score[rows, None]).item()

    called = np.full(len(score), np.nan) if unknown else (score >= threshold).astype(float)
    sides = [groups_with(predictions.group, side) for side in (tumour, ~tumour)]
    found = _rates(predictions.group, tumour, called, "auc", auc, min(sides), resamples)
    counts = {"tumours": int(tumour.sum()), "healthy": int((~tumour).sum())}
    found |= dict.fromkeys(too_few(**counts), NOTHING)
    return {"threshold": None if unknown else float(threshold)} | counts | found


def _rates(
    groups: pd.Series, tumour: np.ndarray, called: np.ndarray, name: str, third: Callable, trials: int, resamples: int
) -> dict[str, Interval]:
    """Sensitivity and specificity of what is `called` a tumour (1, 0 or NaN), and one metric more."""

    def statistic(rows: np.ndarray) -> dict[str, float]:
        sides = called[rows[tumour[rows]]], 1 - called[rows[~tumour[rows]]]
        sensitivity, specificity = (side.mean() if len(side) else np.nan for side in sides)
        return {"sensitivity": sensitivity, "specificity": specificity, name: third(rows)}

    counted = {"sensitivity": groups_with(groups, tumour), "specificity": groups_with(groups, ~tumour), name: trials}
    return grouped_ci(groups, statistic, resamples, trials=counted)


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities N×K at another temperature: above 1 less, below 1 more decided; the order of the classes stays."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the smallest mean negative log-likelihood on validation images, N×K and class indices N."""

    def loss(log_temperature: float) -> float:
        found = calibrated(probabilities, float(np.exp(log_temperature)))
        return -np.log(np.maximum(found[np.arange(len(truth)), truth], FLOOR)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error in 15 bins of confidence."""
    scores, classes = torch.tensor(probabilities, dtype=torch.float64), probabilities.shape[1]
    return float(multiclass_calibration_error(scores, torch.tensor(truth), classes, CALIBRATION_BINS))


@dataclass(frozen=True)
class Ensemble:
    """A weighted mean of calibrated probabilities: a temperature and a weight a member; weights sum to 1."""

    temperatures: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities N×K of each member → N×K of all together."""
        each = zip(self.weights, members, self.temperatures, strict=True)
        return sum(weight * calibrated(probabilities, temperature) for weight, probabilities, temperature in each)


def choose(members: Sequence[np.ndarray], truth: np.ndarray) -> Ensemble:
    """Temperatures (Guo et al. 2017), then weights in tenths with the smallest mean negative log-likelihood.

    Of equally good weights those that are nearest to equal shares: a member may be left out, but not by chance.
    `members`: probabilities N×K of each on the same validation images; `truth`: their class indices N.
    """
    temperatures = tuple(fit_temperature(probabilities, truth) for probabilities in members)
    each = zip(members, temperatures, strict=True)
    right = np.array([calibrated(p, temperature)[np.arange(len(truth)), truth] for p, temperature in each])
    tenths = product(range(STEPS + 1), repeat=len(members))
    weights = [np.array(parts) / STEPS for parts in tenths if sum(parts) == STEPS]
    weights.sort(key=lambda shares: round(float((shares**2).sum()), 9))
    losses = [-np.log(np.maximum(shares @ right, FLOOR)).mean() for shares in weights]
    return Ensemble(temperatures, tuple(weights[int(np.argmin(np.round(losses, 9)))].tolist()))
