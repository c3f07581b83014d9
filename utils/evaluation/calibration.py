"""Makes probabilities mean what they say: one temperature, fitted on validation images.

Guo et al. 2017 (arXiv:1706.04599). Logits divided by T and the softmax of them are the probabilities to the power 1/T,
scaled to sum to 1; so it serves networks whose probabilities come from several heads, and averages of networks, too.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import multiclass_calibration_error

from utils.evaluation.classification import CALIBRATION_BINS

LIMITS = (0.05, 20.0)  # of the temperature
FLOOR = 1e-12  # a probability that was rounded to 0


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities N×K at another temperature: above 1 less, below 1 more decided; the order of the classes stays."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), FLOOR)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the smallest mean negative log-likelihood.

    Args:
        probabilities: N×K of validation images; truth: their class indices N.
    """

    def loss(log_temperature: float) -> float:
        found = calibrated(probabilities, float(np.exp(log_temperature)))
        return -np.log(np.maximum(found[np.arange(len(truth)), truth], FLOOR)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded").x))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error in 15 bins of confidence, as in every table of this repository."""
    return float(
        multiclass_calibration_error(
            torch.tensor(probabilities, dtype=torch.float64),
            torch.tensor(truth),
            num_classes=probabilities.shape[1],
            n_bins=CALIBRATION_BINS,
        )
    )
