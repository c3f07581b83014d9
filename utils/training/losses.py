"""Losses of segmentation, class weights, and balances, which make one loss of several, by the names of recipes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datasets.catalog import DataError


class DiceAndBCE(nn.Module):
    """Binary cross-entropy of every pixel plus the Dice loss over the batch, for masks that are mostly background:
    L = BCE + 1 − 2·Σ p·y / (Σ p + Σ y) of probabilities p and masks y, averaged over channels (Milletari et al. 2016,
    arXiv:1606.04797)."""

    def __init__(self):
        from monai.losses import DiceLoss  # here, since MONAI's import takes seconds and this loss alone needs it

        super().__init__()
        self.dice, self.bce = DiceLoss(sigmoid=True, batch=True), nn.BCEWithLogitsLoss()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.dice(logits, targets) + self.bce(logits, targets)


LOSSES = {"bce": nn.BCEWithLogitsLoss, "dice+bce": DiceAndBCE}


def class_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """S3's, N / (K · N_c) for class c, float32 K: all count alike. Raises `DataError` where a class has no image."""
    counts = torch.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(f"class weights: class {int(counts.argmin())} has no image in the training set")
    return len(labels) / (num_classes * counts.float())


class Fixed(nn.Module):
    """The plain sum of the losses `names`. What other balances learn is kept in checkpoints (`state_dict`)."""

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


# First averages, near which losses begin: S0's; those of the localiser, cross-entropies, with a Dice loss in `outline`.
STARTS = {"reconstruction": 4e-4, "classification": 1.0, "outline": 1.5, "name": 1.0}


class RunningAverage(Fixed):
    """S0's: each loss is divided by its own running average, so that all count about 1 whatever their scale.

    L = Σ loss / E, after E ← .99·E + .01·loss. S0 reset E in every epoch and in validation; here the averages last for
    the whole training, and validation changes nothing. With several processes they are averages over all of them.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__(names)
        self.register_buffer("averages", torch.tensor([STARTS[name] for name in self.names]))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        from accelerate.utils import reduce  # here: an answer makes the loss, and never computes it

        if self.training:
            now = reduce(torch.stack([losses[name].detach().float() for name in self.names]), "mean")
            self.averages.mul_(0.99).add_(now, alpha=1 - 0.99)
        return super().forward(losses)

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.names, 1 / self.averages.clamp_min(1e-12), strict=True))


class Uncertainty(Fixed):
    """Learned weights (Kendall, Gal & Cipolla 2018, arXiv:1705.07115), which S0 cites and does not use.

    L = Σ c·loss·exp(−s) + s/2, with s = log σ² of each loss, learned; c = ½ for a squared error, 1 for a cross-entropy.
    """

    def __init__(self, names: Sequence[str]):
        from accelerate.utils import reduce

        super().__init__(names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))
        self.register_buffer("factors", torch.tensor([0.5 if n == "reconstruction" else 1.0 for n in self.names]))
        # Outside the model, data parallelism does not average this gradient over the processes.
        self.log_variances.register_hook(lambda gradient: reduce(gradient, "mean"))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        return super().forward(losses) + self.log_variances.sum() / 2

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.factors * torch.exp(-self.log_variances), strict=True))


BALANCES = {"fixed": Fixed, "ema": RunningAverage, "kendall": Uncertainty}
