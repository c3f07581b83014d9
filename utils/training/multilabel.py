"""Several findings an image: a sigmoid for each, weighted or asymmetric cross-entropy, AUC over the findings."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from datasets.catalog import lookup
from utils.training.metrics import MeanLoss
from utils.training.tasks import FromImage

MOST_WEIGHT = 50.0  # of a rare finding's positive images; Hernia, 227 of 112,120, would count 493
LOSSES = ("weighted-bce", "bce", "asymmetric")


class MultiLabel(FromImage):
    """Whether an image shows each of K findings, independent of one another.

    Args:
        findings: number of findings.
        in_channels: channels that the model takes; a grey image is repeated to fill them.
        loss: of `LOSSES`; "weighted-bce" counts a positive image of a finding (images without it) / (images with it),
            at most `MOST_WEIGHT`; under "asymmetric" (Ridnik et al., ICCV 2021, arXiv:2009.14119) easy negatives, which
            are nearly all, fade.
        positives: number of training images with each finding, K; images: of all training images.
        augmentation: key of `AUGMENTATIONS`, used in training only.

    Raises:
        UnknownName: another loss or augmentation.
    """

    monitor = "auc"

    def __init__(
        self, findings: int, positives: Tensor, images: int, in_channels: int = 3, loss: str = "weighted-bce",
        augmentation: str = "none",
    ):  # fmt: skip
        super().__init__(in_channels, augmentation)
        weight = ((images - positives) / positives.clamp_min(1)).clamp(max=MOST_WEIGHT).float()
        criteria = {
            "weighted-bce": lambda: nn.BCEWithLogitsLoss(pos_weight=weight),
            "bce": nn.BCEWithLogitsLoss,
            "asymmetric": _asymmetric,
        }
        assert tuple(criteria) == LOSSES and len(weight) == findings
        self.criterion = lookup(criteria, loss, "loss of findings")()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits B×K over images and findings, a scalar."""
        return self.criterion(outputs, targets)

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass: `loss`, and `auc`, the mean over the findings that occur."""
        return MetricCollection({"loss": MeanLoss(self.loss), "auc": MeanAUC()}, compute_groups=False)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits B×K → probabilities B×K, which need not sum to 1."""
        return outputs.float().sigmoid()


def _asymmetric() -> nn.Module:
    from timm.loss import AsymmetricLossMultiLabel  # here, since timm's import takes seconds

    return AsymmetricLossMultiLabel(reduction="mean")


class MeanAUC(Metric):
    """Mean area under the ROC curve of the findings that some, but not all, images of a pass show; NaN without any."""

    full_state_update = False

    def __init__(self):
        super().__init__(sync_on_compute=False)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("shown", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Logits B×K and targets B×K."""
        self.scores.append(outputs.float())
        self.shown.append(targets)

    def compute(self) -> Tensor:
        scores, shown = dim_zero_cat(self.scores), dim_zero_cat(self.shown).long()
        occur = [k for k in range(shown.shape[1]) if 0 < shown[:, k].sum() < len(shown)]
        areas = [binary_auroc(scores[:, k].sigmoid(), shown[:, k]) for k in occur]
        return torch.stack(areas).mean() if areas else torch.tensor(torch.nan)
