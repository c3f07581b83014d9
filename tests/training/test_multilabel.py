"""Losses of several findings an image, and the mean AUC of an epoch, by hand."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from datasets.catalog import UnknownName
from utils.training.multilabel import MeanAUC, MultiLabel


def test_losses_by_hand():
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    positives = torch.tensor([25.0, 0.0])
    weighted = MultiLabel(2, positives, 100)
    wanted = binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor([3.0, 50.0]))
    assert weighted.loss(logits, targets) == pytest.approx(wanted.item())
    assert MultiLabel(2, positives, 100, loss="bce").loss(logits, targets) == pytest.approx(
        binary_cross_entropy_with_logits(logits, targets).item()
    )
    p = logits.sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    terms = torch.where(targets == 1, -(1 - p) * p.log(), -(shifted**4) * (1 - shifted).log())
    asymmetric = MultiLabel(2, positives, 100, loss="asymmetric").loss(logits, targets)
    assert asymmetric == pytest.approx(terms.mean().item(), rel=1e-4)
    with pytest.raises(UnknownName, match="did you mean 'asymmetric'"):
        MultiLabel(2, positives, 100, loss="asymetric")


def test_mean_auc_leaves_out_what_cannot_be_judged():
    metric = MeanAUC()
    logits = torch.tensor([[3.0, 0.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0], [-1.0, 2.0, 3.0]])
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])  # the second none shows, the third all
    metric.update(logits[:2], targets[:2])
    metric.update(logits[2:], targets[2:])
    assert metric.compute() == 1.0
    metric.update(torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.0, 0, 1]]))
    assert metric.compute() == pytest.approx(3 / 4)
    empty = MeanAUC()
    empty.update(logits, targets[:, [1, 2, 2]])
    assert empty.compute().isnan()
