"""What is chosen on validation images after training: the threshold of a tumour, a temperature, weights of networks.

One temperature T makes probabilities mean what they say (Guo et al. 2017, arXiv:1706.04599). The softmax of logits
divided by T is the probabilities to the power 1/T, scaled to sum to 1; so it serves networks of several heads, too.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from datasets.catalog import HEALTHY, DataError
from utils.evaluation.classification import CALIBRATION_BINS, NOTHING, area_under_roc, too_few
from utils.evaluation.intervals import Interval, grouped_ci, groups_with, number

SPECIFICITY = 0.95  # one false alarm among 20 healthy people
FEWEST_HEALTHY = 20  # groups without a tumour in validation: of fewer, one is more than the 5 % that may be called
TEMPERATURES = (0.05, 20.0)  # limits
FLOOR = 1e-12  # a probability that was rounded to 0
STEPS = 10  # of a weight, from 0 to 1


class Threshold(NamedTuple):
    """From which score on an image is called a tumour, and what of the validation images supports that.

    Attributes:
        value: NaN where validation shows too few healthy groups, or its predictions are not known.
        specificity: the share of the healthy validation images below `value`; NaN without one.
        healthy_groups: of validation; None where its predictions are not known.
    """

    value: float
    specificity: float = np.nan
    healthy_groups: int | None = None

    def __str__(self) -> str:
        if np.isnan(self.value):
            return f"none: {self.healthy_groups} groups of healthy validation images are fewer than {FEWEST_HEALTHY}"
        spared = f"{100 * self.specificity:.1f} % of the healthy validation images ({self.healthy_groups} groups)"
        return f"{self.value:.3f}, below which lie {spared}"

    def as_record(self) -> dict[str, float | int | None]:
        """As it stands in records and on cards; None for what there is not. The value has all its digits, since it is
        the score of an image."""
        value = None if np.isnan(self.value) else self.value
        found = {"threshold": value, "specificity_on_validation": number(self.specificity)}
        return found | {"healthy_groups_on_validation": self.healthy_groups}


UNKNOWN = Threshold(np.nan)


def tumour_scores(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image of a table of predictions the score 1 − p(no tumour), whether it shows a tumour, and its group.

    Probabilities have single precision in memory, and decimals in a file: only their single precision gives the same
    score from both, and a threshold is one of these scores."""
    healthy = predictions[f"p_{HEALTHY}"].to_numpy(np.float32)
    return 1 - healthy.astype(np.float64), predictions.label.ne(HEALTHY).to_numpy(), predictions.group.to_numpy()


def threshold_for(
    score: np.ndarray, tumour: np.ndarray, groups: np.ndarray, specificity: float = SPECIFICITY
) -> Threshold:
    """The lowest threshold, among the scores of the validation images and just above the highest, that at least a share
    `specificity` of the healthy ones lies below. Lower ones find more tumours, higher ones spare more of the healthy.

    Args:
        score: of N validation images (`tumour_scores`); tumour: whether each shows one; groups: the group of each. Of
            fewer than `FEWEST_HEALTHY` healthy groups a specificity says little: then there is no threshold.

    Raises `DataError`: a specificity that is not between 0 and 1.
    """
    if not 0 < specificity < 1:
        raise DataError(f"specificity={specificity}: a share between 0 and 1 is accepted, such as {SPECIFICITY}")
    if (count := groups_with(groups, ~tumour)) < FEWEST_HEALTHY:
        return Threshold(np.nan, healthy_groups=count)
    values = np.append(np.unique(score), np.nextafter(score.max(), np.inf))
    spared = np.searchsorted(np.sort(score[~tumour]), values) / (~tumour).sum()
    first = int(np.argmax(spared >= specificity))
    return Threshold(float(values[first]), float(spared[first]), count)


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


def tumour_or_none(predictions: pd.DataFrame, threshold: Threshold, resamples: int = 1000) -> dict:
    """Tumour or none of test images, at a threshold from validation images (`threshold_for`, or `UNKNOWN`).

    Returns:
        `Threshold.as_record`; `tumours` and `healthy`, the numbers of images; and `sensitivity`, `specificity` and
        `auc` as {value, low, high} over groups. A rate of fewer than `classification.FEWEST` images is None: it says
        nothing.
    """
    score, tumour, groups = tumour_scores(predictions)

    def auc(rows: np.ndarray) -> float:
        return area_under_roc(tumour[rows, None], score[rows, None]).item()

    called = np.full(len(score), np.nan) if np.isnan(threshold.value) else (score >= threshold.value).astype(float)
    sides = [groups_with(groups, side) for side in (tumour, ~tumour)]
    found = _rates(predictions.group, tumour, called, "auc", auc, min(sides), resamples)
    counts = {"tumours": int(tumour.sum()), "healthy": int((~tumour).sum())}
    found |= dict.fromkeys(too_few(**counts), NOTHING)
    return threshold.as_record() | counts | found


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
    return softmax(np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) / temperature, axis=1)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the smallest mean negative log-likelihood on validation images, N×K and class indices N."""

    from scipy.optimize import minimize_scalar  # here, as below: answers need `calibrated` alone, and no seconds more

    def loss(log_temperature: float) -> float:
        found = calibrated(probabilities, float(np.exp(log_temperature)))
        return -np.log(np.maximum(found[np.arange(len(truth)), truth], FLOOR)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error in 15 bins of confidence."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    scores, classes = torch.tensor(probabilities, dtype=torch.float64), probabilities.shape[1]
    return float(multiclass_calibration_error(scores, torch.tensor(truth), classes, CALIBRATION_BINS))


def choose(members: Sequence[np.ndarray], truth: np.ndarray) -> tuple[list[float], np.ndarray]:
    """A temperature a member (Guo et al. 2017), then its weight in the mean of all, in tenths that sum to 1, with the
    smallest mean negative log-likelihood.

    Of equally good weights those that are nearest to equal shares: a member may be left out, but not by chance.
    `members`: probabilities N×K of each on the same validation images; `truth`: their class indices N.
    """
    temperatures = [fit_temperature(probabilities, truth) for probabilities in members]
    each = zip(members, temperatures, strict=True)
    right = np.array([calibrated(p, temperature)[np.arange(len(truth)), truth] for p, temperature in each])
    tenths = product(range(STEPS + 1), repeat=len(members))
    weights = [np.array(parts) / STEPS for parts in tenths if sum(parts) == STEPS]
    weights.sort(key=lambda shares: round(float((shares**2).sum()), 9))
    losses = [-np.log(np.maximum(shares @ right, FLOOR)).mean() for shares in weights]
    return temperatures, weights[int(np.argmin(np.round(losses, 9)))]
