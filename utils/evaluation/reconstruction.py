"""Evaluates the latent and the reconstruction of a multi-task network, image by image.

The map of the latent and the list of outliers are in `evaluation/embeddings.py`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from datasets.catalog import HEALTHY
from datasets.store.images import ImageDataset
from utils.evaluation.intervals import grouped_bootstrap_ci
from utils.evaluation.predict import outputs
from utils.evaluation.ranking import area_under_roc, groups_ranked


def describe(model: nn.Module, task, data: ImageDataset, batch_size: int = 64) -> dict[str, np.ndarray]:
    """All images of `data` in their order, from one pass.

    Returns:
        `probabilities` N×K, `latent` N×256, and `error` N, the mean squared error of the reconstruction, where the
        model has one.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch, out in outputs(model, task.inputs, data, batch_size):
        found = {"probabilities": task.probabilities(out), "latent": out["latent"]}
        if task.reconstruct:
            found["error"] = task.per_image(out, task.targets(batch))["reconstruction"][0]
        for name, values in found.items():
            parts.setdefault(name, []).append(values.float().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


@torch.no_grad()
def reconstructions(
    model: nn.Module, task, data: ImageDataset, indices: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Some images of `data` as the model sees them, and as it reconstructs them; both n×H×W, of about [0, 1]."""
    batch = data.batch(list(indices))
    device = next(model.parameters()).device
    x = task.inputs({key: value.to(device) for key, value in batch.items()})
    drawn = model.eval()(x)["reconstruction"]
    return x[:, 0].cpu().numpy(), drawn[:, 0].float().cpu().numpy()


def anomaly(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    fold: np.ndarray | None = None,
) -> dict[str, dict]:
    """How well the reconstruction error predicts a tumour: AUC of the column `error`, each tumour against the healthy.

    Args:
        fold: of each row, where folds are joined: an AUC ranks within folds only (`ranking.py`).

    Returns:
        {"tumour": {value, low, high}, CLASS: …}: .5 is chance, and below .5 tumours are reconstructed *better*. None
        for a class that does not occur.
    """
    error, groups = predictions.error.to_numpy()[:, None], predictions.group.to_numpy()
    label, fine = predictions.label.to_numpy(), (predictions.label == HEALTHY).to_numpy()
    fold = np.zeros(len(error)) if fold is None else fold
    sets = {"tumour": ~fine} | {c: label == c for c in classes if c != HEALTHY}
    both = {name: sick | fine for name, sick in sets.items()}

    def statistic(rows: np.ndarray) -> dict[str, float]:
        found = {}
        for name, sick in sets.items():
            of_both = rows[both[name][rows]]
            found[name] = area_under_roc(sick[of_both, None], error[of_both], fold[of_both]).item()
        return found

    trials = {
        name: groups_ranked(groups[both[name]], sick[both[name]], fold[both[name]]) for name, sick in sets.items()
    }
    return grouped_bootstrap_ci(groups, statistic, resamples, seed, trials=trials)
