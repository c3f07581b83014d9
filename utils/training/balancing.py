"""Balances combine several losses into one, each with weights of its own kind; recipes choose among them.

A balance is a module called with the named losses of a batch. What it learns or accumulates is in its `state_dict`, so
checkpoints keep it through training. In evaluation it changes nothing.
"""

from collections.abc import Sequence

import torch
from accelerate.utils import reduce
from torch import Tensor, nn

# First averages, near which the losses begin. S0's: "classification" is the sum of its two heads' losses. Those of the
# localiser: cross-entropies, with the Dice loss below 1 added to the outline's.
STARTS = {"reconstruction": 4e-4, "classification": 1.0, "outline": 1.5, "name": 1.0}
SQUARED = ("reconstruction",)  # squared errors; the others are cross-entropies


class Fixed(nn.Module):
    """The plain sum: every loss counts 1.

    Args:
        names: of the losses, in the order of the weights.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """Scalar losses by name → the scalar that is minimised."""
        weights = self.weights()
        return sum(weights[name] * losses[name] for name in self.names)

    def weights(self) -> dict[str, Tensor]:
        """What each loss, and so its gradient, is multiplied with."""
        return {name: torch.ones(()) for name in self.names}


class RunningAverage(Fixed):
    """S0's: each loss is divided by its own running average, so that all count about 1 whatever their scale.

    L = Σ loss / E, after E ← decay·E + (1 − decay)·loss. S0 reset E in every epoch and in validation; here the averages
    last for the whole training. With several processes they are averages over all of them.
    """

    def __init__(self, names: Sequence[str], decay: float = 0.99, smallest: float = 1e-12):
        super().__init__(names)
        self.decay, self.smallest = decay, smallest
        self.register_buffer("averages", torch.tensor([STARTS[name] for name in self.names]))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        if self.training:
            now = reduce(torch.stack([losses[name].detach().float() for name in self.names]), "mean")
            self.averages.mul_(self.decay).add_(now, alpha=1 - self.decay)
        return super().forward(losses)

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.names, 1 / self.averages.clamp_min(self.smallest), strict=True))


class Uncertainty(Fixed):
    """Learned weights (Kendall, Gal & Cipolla 2018, arXiv:1705.07115), which S0 cites and does not use.

    L = Σ c·loss·exp(−s) + s/2, with s = log σ² of each loss, learned; c = ½ for a squared error, 1 for a cross-entropy.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__(names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))
        self.register_buffer("factors", torch.tensor([0.5 if name in SQUARED else 1.0 for name in self.names]))
        # Outside the model, data parallelism does not average this gradient over the processes.
        self.log_variances.register_hook(lambda gradient: reduce(gradient, "mean"))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        return super().forward(losses) + self.log_variances.sum() / 2

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.factors * torch.exp(-self.log_variances), strict=True))


BALANCES = {"fixed": Fixed, "ema": RunningAverage, "kendall": Uncertainty}
