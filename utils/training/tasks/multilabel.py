"""Several findings an image: a sigmoid for each, weighted or asymmetric cross-entropy, AUC over the findings."""

from functools import partial

import torch
from torch import Tensor, nn

from datasets.catalog import lookup
from utils.training.tasks.base import Task

MOST_WEIGHT = 50.0  # of a rare finding's positive images; Hernia, 227 of 112,120, would count 493


class MultiLabel(Task):
    """Whether an image shows each of K findings, which `positives`, K, of the training `images` do.

    Losses: "weighted-bce" counts a positive image of a finding (images without it) / (images with it), at most
    `MOST_WEIGHT`; under "asymmetric" (Ridnik et al., ICCV 2021, arXiv:2009.14119) easy negatives, nearly all, fade.
    """

    monitor, reported = "auc", ("macro_auc", "macro_average_precision")

    def __init__(
        self, positives: Tensor, images: int, in_channels: int = 3, loss: str = "weighted-bce",
        augmentation: str = "none",
    ):  # fmt: skip
        super().__init__(augmentation, in_channels)
        weight = ((images - positives) / positives.clamp_min(1)).clamp(max=MOST_WEIGHT).float()
        criteria = {"weighted-bce": partial(nn.BCEWithLogitsLoss, pos_weight=weight), "asymmetric": _asymmetric}
        self.loss = lookup(criteria, loss, "loss of findings")()  # of logits B×K, over images and findings

    def metrics(self) -> nn.ModuleDict:
        from torchmetrics import MetricCollection

        from utils.training.metrics import MeanAUC, MeanLoss

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
        # its loss, which knows the training images, has no part in an answer
        return cls(torch.zeros(len(card["classes"])), 1, card["arguments"]["in_channels"])


def _asymmetric() -> nn.Module:
    from timm.loss import AsymmetricLossMultiLabel  # here, since timm's import takes seconds

    return AsymmetricLossMultiLabel(reduction="mean")
