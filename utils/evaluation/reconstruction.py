"""Evaluates the reconstruction of a multi-task network, image by image."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from datasets.catalog import HEALTHY
from datasets.store.images import ImageDataset
from utils.evaluation.classification import area_under_roc, groups_ranked
from utils.evaluation.intervals import Interval, grouped_ci
from utils.evaluation.predict import outputs, run_model


def describe(model: nn.Module, task, data: ImageDataset) -> dict[str, np.ndarray]:
    """All images of `data` in their order, from one pass: `probabilities` N×K and `error` N, the mean
    squared error of the reconstruction, where the model has one."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch, out in outputs(model, task.inputs, data):
        found = {"probabilities": task.probabilities(out)}
        if task.reconstruct:
            found["error"] = task.per_image(out, task.targets(batch))["reconstruction"][0]
        for name, values in found.items():
            parts.setdefault(name, []).append(values.float().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def reconstructions(
    model: nn.Module, task, data: ImageDataset, indices: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Some images of `data` as the model sees them, and as it reconstructs them; both n×H×W, of about [0, 1]."""
    ((batch, out),) = run_model(model, task.inputs, [data.batch(list(indices))])
    return tuple(images[:, 0].float().cpu().numpy() for images in (task.inputs(batch), out["reconstruction"]))


def anomaly(
    predictions: pd.DataFrame, classes: Sequence[str], resamples: int = 1000, fold: np.ndarray | None = None
) -> dict[str, Interval]:
    """How well the reconstruction error predicts a tumour: AUC of the column `error`, each tumour against the healthy.

    {"tumour": {value, low, high}, CLASS: …}: .5 is chance, and below .5 tumours are reconstructed *better*. None for a
    class that does not occur. `fold`: of each row, where folds are joined: an AUC ranks within folds only.
    """
    error, groups, label = (predictions[name].to_numpy() for name in ("error", "group", "label"))
    fine, fold = label == HEALTHY, np.zeros(len(error)) if fold is None else fold
    sets = {"tumour": ~fine} | {c: label == c for c in classes if c != HEALTHY}

    def statistic(rows: np.ndarray) -> dict[str, float]:
        found = {}
        for name, sick in sets.items():
            both = rows[(sick | fine)[rows]]
            found[name] = area_under_roc(sick[both, None], error[both, None], fold[both]).item()
        return found

    both = {name: sick | fine for name, sick in sets.items()}
    trials = {name: groups_ranked(groups[of], sets[name][of], fold[of]) for name, of in both.items()}
    return grouped_ci(groups, statistic, resamples, trials=trials)
