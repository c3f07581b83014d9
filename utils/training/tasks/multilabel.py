"""Several findings an image: a sigmoid for each, weighted or asymmetric cross-entropy, AUC over the findings."""

from functools import partial

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from datasets.catalog import lookup
from utils.training.tasks.base import MeanLoss, Task

MOST_WEIGHT = 50.0  # of a rare finding's positive images; Hernia, 227 of 112,120, would count 493


class MultiLabel(Task):
    """Whether an image shows each of K findings, of which `positives`, K, of the training `images` do.

    Losses: "weighted-bce" counts a positive image of a finding (images without it) / (images with it), at most
    `MOST_WEIGHT`; under "asymmetric" (Ridnik et al., ICCV 2021, arXiv:2009.14119) easy negatives, nearly all, fade.
    """

    monitor, reported = "auc", ("macro_auc", "macro_average_precision")

    def __init__(
        self, findings: int, positives: Tensor, images: int, in_channels: int = 3, loss: str = "weighted-bce",
        augmentation: str = "none",
    ):  # fmt: skip
        super().__init__(augmentation, in_channels)
        weight = ((images - positives) / positives.clamp_min(1)).clamp(max=MOST_WEIGHT).float()
        criteria = {"weighted-bce": partial(nn.BCEWithLogitsLoss, pos_weight=weight), "asymmetric": _asymmetric}
        self.loss = lookup(criteria, loss, "loss of findings")()  # of logits B×K, over images and findings

    def metrics(self) -> MetricCollection:
        return MetricCollection({"loss": MeanLoss(self.loss), "auc": MeanAUC()}, compute_groups=False)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities B×K, which need not sum to 1."""
        return outputs.float().sigmoid()

    @classmethod
    def evaluate(cls, table, names, resamples=1000, fold=None) -> dict:
        from utils.evaluation.findings import evaluate_findings

        return evaluate_findings(table, names, resamples, fold=fold)

    @classmethod
    def from_card(cls, card: dict) -> Task:
        findings = len(card["classes"])  # its loss, which knows the training images, has no part in an answer
        return cls(findings, torch.zeros(findings), 1, card["arguments"]["in_channels"])


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
        self.scores.append(outputs.float())
        self.shown.append(targets)

    def compute(self) -> Tensor:
        scores, shown = dim_zero_cat(self.scores), dim_zero_cat(self.shown).long()
        occur = [k for k in range(shown.shape[1]) if 0 < shown[:, k].sum() < len(shown)]
        areas = [binary_auroc(scores[:, k].sigmoid(), shown[:, k]) for k in occur]
        return torch.stack(areas).mean() if areas else torch.tensor(torch.nan)
