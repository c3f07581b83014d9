"""Several findings an image: a sigmoid for each, weighted or asymmetric cross-entropy, AUC over the findings."""

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from datasets.catalog import lookup
from utils.training.augmentation import AUGMENTATIONS
from utils.training.metrics import MeanLoss

MOST_WEIGHT = 50.0  # of a rare finding's positive images; Hernia, 227 of 112,120, would count 493


LOSSES = ("weighted-bce", "bce", "asymmetric")


class MultiLabel(nn.Module):
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
        super().__init__()
        self.in_channels = in_channels
        self.augment = lookup(AUGMENTATIONS, augmentation, "augmentation")()
        weight = ((images - positives) / positives.clamp_min(1)).clamp(max=MOST_WEIGHT).float()
        criteria = {
            "weighted-bce": lambda: nn.BCEWithLogitsLoss(pos_weight=weight),
            "bce": nn.BCEWithLogitsLoss,
            "asymmetric": lambda: AsymmetricLossMultiLabel(reduction="mean"),
        }
        assert tuple(criteria) == LOSSES and len(weight) == findings
        self.criterion = lookup(criteria, loss, "loss of findings")()

    def inputs(self, batch: dict[str, Tensor], training: bool = False) -> Tensor:
        """`batch["image"]` uint8 B×C×S×S → float B×in_channels×S×S in [0, 1], augmented when training."""
        x = batch["image"].float() / 255
        if training and self.augment is not None:
            x = self.augment(x)
        return x.expand(-1, self.in_channels, -1, -1)

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """Findings, float B×K of 0 and 1."""
        return batch["label"]

    def example(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Augmented inputs and their targets, for training."""
        return self.inputs(batch, training=True), self.targets(batch)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits B×K over images and findings, a scalar."""
        return self.criterion(outputs, targets)

    def metrics(self) -> MetricCollection:
        """Fresh metrics for one pass: `loss`, and `auc`, the mean over the findings that occur."""
        return MetricCollection({"loss": MeanLoss(self.loss), "auc": MeanAUC()}, compute_groups=False)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits B×K → probabilities B×K, which need not sum to 1."""
        return outputs.float().sigmoid()


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
