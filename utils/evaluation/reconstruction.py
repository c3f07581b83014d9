"""What a multi-task network holds of each picture: its latent and how well it draws it again.

The map of the latent and the list of outliers are `shift.umap_of` and `shift.outliers`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torchmetrics.functional.classification import binary_auroc

from datasets.store import PackedImages
from utils.evaluation import HEALTHY, group_intervals, number, one_thread
from utils.training import make_loader


@torch.no_grad()
def describe(model: nn.Module, task, data: PackedImages, batch_size: int = 64) -> dict[str, np.ndarray]:
    """All pictures of `data` in their order, from one pass.

    Returns:
        `probabilities` N×K, `latent` N×256, and `error` N, the mean squared error of the reconstruction, where the
        model has one.
    """
    device = next(model.parameters()).device
    model.eval()
    parts: dict[str, list[np.ndarray]] = {}
    for batch in make_loader(data, batch_size):
        batch = {key: value.to(device) for key, value in batch.items()}
        outputs, targets = model(task.inputs(batch)), task.targets(batch)
        found = {"probabilities": task.probabilities(outputs), "latent": outputs["latent"]}
        if task.reconstruct:
            found["error"] = task.by_picture(outputs, targets)["reconstruction"][0]
        for name, values in found.items():
            parts.setdefault(name, []).append(values.float().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


@torch.no_grad()
def reconstructions(
    model: nn.Module, task, data: PackedImages, indices: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Some pictures of `data` as the model sees them, and as it draws them; both n×H×W, of about [0, 1]."""
    batch = data.__getitems__(list(indices))
    device = next(model.parameters()).device
    x = task.inputs({key: value.to(device) for key, value in batch.items()})
    drawn = model.eval()(x)["reconstruction"]
    return x[:, 0].cpu().numpy(), drawn[:, 0].float().cpu().numpy()


def anomaly(predictions: pd.DataFrame, classes: Sequence[str], resamples: int = 1000, seed: int = 0) -> dict[str, dict]:
    """Is a picture that is drawn badly a sick one? AUC of the column `error` for each tumour against the healthy.

    Returns:
        {"tumour": {value, low, high}, CLASS: …}: .5 says nothing, below .5 tumours are drawn *better*. None for a
        class that does not occur.
    """
    error = torch.tensor(predictions.error.to_numpy())
    label, fine = predictions.label.to_numpy(), (predictions.label == HEALTHY).to_numpy()
    asked = {"tumour": ~fine} | {c: label == c for c in classes if c != HEALTHY}

    def statistic(rows: np.ndarray) -> np.ndarray:
        found = []
        for sick in asked.values():
            of_both = rows[sick[rows] | fine[rows]]
            target = torch.tensor(sick[of_both]).long()
            one_kind = target.unique().numel() < 2
            found.append(np.nan if one_kind else float(binary_auroc(error[of_both], target, validate_args=False)))
        return np.array(found)

    values = statistic(np.arange(len(predictions)))
    with one_thread():
        low, high = group_intervals(predictions.group.to_numpy(), statistic, resamples, seed)
    return {
        name: {"value": number(v), "low": number(lo), "high": number(hi)}
        for name, v, lo, hi in zip(asked, values, low, high, strict=True)
    }
