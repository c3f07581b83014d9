"""Class weights, label smoothing, and augmentations that turn an image upside down or never do."""

import pytest
import torch

from datasets import catalog
from datasets.catalog import DataError
from utils.training.losses import class_weights
from utils.training.tasks import Classification


def test_class_weights_are_s3s():
    counts = catalog.get("brain-tumor-mri").counts["train"]
    labels = torch.cat([torch.full((counts[c],), k) for k, c in enumerate(catalog.CLASSES)])
    assert class_weights(labels, 4).tolist() == pytest.approx([1.08, 1.07, 0.90, 0.98], abs=5e-3)
    with pytest.raises(DataError, match="class 3 has no image"):
        class_weights(torch.tensor([0, 1, 2]), 4)


def test_smoothed_and_weighted_loss_by_hand():
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    logs = logits.log_softmax(1)
    smooth = -(0.95 * logs[:, 0] + 0.05 * logs[:, 1])  # smoothing .1 over two classes
    task = Classification(2, label_smoothing=0.1, class_weights=torch.tensor([3.0, 1.0]))
    assert torch.allclose(task.loss(logits, target), (3 * smooth).mean())
