"""Turns the outputs of a multi-task network into a class: tumour or not, and if so which."""

import torch
from torch import Tensor

from datasets import catalog
from datasets.catalog import HEALTHY, DataError

S0_THRESHOLD = 0.5


def healthy_class(name: str) -> int:
    """Index of the class without a tumour of data set `name`; raises `DataError` where there is none."""
    classes = catalog.get(name).classes
    if HEALTHY not in classes:
        able = ", ".join(
            other for other, facts in catalog.CATALOG.items() if HEALTHY in facts.classes and not facts.test_only
        )
        raise DataError(f"'{name}' has no images without a tumour, so there is none to detect. Take one of: {able}")
    return classes.index(HEALTHY)


def joint_probabilities(outputs: dict[str, Tensor], healthy: int) -> Tensor:
    """Probabilities B×K of all classes, from the outputs of a `MultiTaskUNet`.

    A kind of tumour has p(tumour)·p(kind | tumour), the class `healthy` (its index) has 1 − p(tumour).
    """
    if "classes" in outputs:
        return outputs["classes"].float().softmax(1)
    tumour = outputs["tumour"].float().sigmoid()[:, None]
    kinds = tumour * outputs["subtype"].float().softmax(1)
    return torch.cat([kinds[:, :healthy], 1 - tumour, kinds[:, healthy:]], dim=1)


def decide(probabilities: Tensor, healthy: int, threshold: float = S0_THRESHOLD) -> Tensor:
    """S0's rule on probabilities N×K: p(tumour) < `threshold` → `healthy`, else the likeliest tumour; class indices N.

    This need not be the largest of the K: with p(tumour) = .6, spread over three kinds, it is a tumour although no kind
    reaches .4.
    """
    kinds = probabilities.clone()
    kinds[:, healthy] = -1
    return torch.where(1 - probabilities[:, healthy] < threshold, healthy, kinds.argmax(1))
