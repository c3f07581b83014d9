"""Metrics of every epoch that torchmetrics does not have."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.segmentation import DiceScore


class MeanLoss(MeanMetric):
    """Mean of a criterion over all images of a pass; infinite where it is NaN for one."""

    def __init__(self, criterion: Callable[[Tensor, Tensor], Tensor]):
        super().__init__(nan_strategy=float("inf"), sync_on_compute=False)  # by default NaN is left out
        self.criterion = criterion

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        super().update(self.criterion(outputs, targets), len(targets))


class LogitDice(DiceScore):
    """Dice of all pixels of a pass together, from logits; the mean over the channels that occur."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        super().update((outputs > 0).int(), targets.int())


class PerImage(Metric):
    """Mean of several values over the images of a pass that count for them; order does not matter.

    Args:
        per_image: (outputs, targets) → {name: (values B, which count B)}.
    """

    full_state_update = False

    def __init__(self, per_image: Callable):
        super().__init__(sync_on_compute=False)
        self.per_image, self.names = per_image, ()
        self.add_state("totals", torch.tensor(0.0, dtype=torch.float64))
        self.add_state("counts", torch.tensor(0.0, dtype=torch.float64))

    def update(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
        found = self.per_image(outputs, targets)
        self.names = tuple(found)
        self.totals = self.totals + torch.stack([(values * counts).sum() for values, counts in found.values()])
        self.counts = self.counts + torch.stack([counts.sum() for _, counts in found.values()])

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.totals / self.counts.clamp_min(1), strict=True))


class RawLosses(PerImage):
    """The same of every loss, and `loss`, their sum."""

    def compute(self) -> dict[str, Tensor]:
        means = super().compute()
        return means | {"loss": sum(means.values())}
