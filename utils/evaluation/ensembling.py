"""Joins networks: each at a temperature, all of them weighted, both chosen on validation images and on nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from utils.evaluation.calibration import FLOOR, calibrated, fit_temperature

STEPS = 10  # of a weight, from 0 to 1


@dataclass(frozen=True)
class Ensemble:
    """A weighted mean of calibrated probabilities.

    Attributes:
        temperatures, weights: one a member, in their order; the weights are not negative and sum to 1.
    """

    temperatures: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities N×K of each member → N×K of all together."""
        return sum(
            weight * calibrated(probabilities, temperature)
            for weight, probabilities, temperature in zip(self.weights, members, self.temperatures, strict=True)
        )


def choose(members: Sequence[np.ndarray], truth: np.ndarray) -> Ensemble:
    """Temperatures (Guo et al. 2017), then weights in tenths with the smallest mean negative log-likelihood.

    Args:
        members: probabilities N×K of each member on the same validation images; truth: their class indices N.

    Returns:
        Of equally good weights those that are nearest to equal shares: a member may be left out, but not by chance.
    """
    temperatures = tuple(fit_temperature(probabilities, truth) for probabilities in members)
    right = np.array(
        [
            calibrated(probabilities, temperature)[np.arange(len(truth)), truth]
            for probabilities, temperature in zip(members, temperatures, strict=True)
        ]
    )
    tenths = product(range(STEPS + 1), repeat=len(members))
    weights = [np.array(parts) / STEPS for parts in tenths if sum(parts) == STEPS]
    weights.sort(key=lambda shares: round(float((shares**2).sum()), 9))
    losses = [-np.log(np.maximum(shares @ right, FLOOR)).mean() for shares in weights]
    return Ensemble(temperatures, tuple(float(share) for share in weights[int(np.argmin(np.round(losses, 9)))]))
