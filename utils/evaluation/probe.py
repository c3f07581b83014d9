"""A linear probe: logistic regression on the features of a pretrained network that is not trained at all.

It is the baseline of transfer learning. A fine-tuned network that does not beat it has learned nothing from the images
that its pretraining did not know.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from datasets.catalog import DataError
from datasets.store.images import ImageDataset, scaled
from models.backbones import Transfer
from models.heads import Standardised
from utils.evaluation.predict import outputs

STRENGTHS = (1e-4, 1e-3, 1e-2)  # scikit-learn's C, from strong to weak regularisation
ITERATIONS = 300


def frozen_features(model: Transfer, data: ImageDataset, batch_size: int = 32, precision: str = "no") -> np.ndarray:
    """Average and maximum over all places of the last map, float32 N×2C, in the order of `data`.

    Args:
        model: its backbone is used, its head is not; it changes nothing.
        precision: "bf16" or "no", see `predict.outputs`.
    """
    pooled: list[Tensor] = []

    def pool(_module: torch.nn.Module, _inputs: tuple, maps: Tensor) -> None:
        maps = maps.float()
        pooled.append(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1).cpu())

    handle = model.map.register_forward_hook(pool)
    try:
        for _ in outputs(model, lambda batch: scaled(batch["image"]), data, batch_size, precision):
            pass
    finally:
        handle.remove()
    return torch.cat(pooled).numpy()


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Pipeline, Pipeline, dict[float, float]]:
    """Logistic regression on standardised features; validation chooses the regularisation.

    Args:
        features: N×D of the training set, labels: N class indices; likewise of the validation set.
        strengths: values of C that are tried, the strongest regularisation first.

    Returns:
        The probe, fitted on training and validation set with the value chosen (of equally good ones the strongest
        regularisation); the one that was fitted on the training set alone with that value, which can still be asked
        about the validation set; and the validation accuracy of each value.
    """
    fitted = dict(_path(features, labels, strengths))
    accuracy = {c: float(probe.score(val_features, val_labels)) for c, probe in fitted.items()}
    best = max(strengths, key=lambda c: (accuracy[c], -c))
    together = np.concatenate([features, val_features]), np.concatenate([labels, val_labels])
    return _probe(best).fit(*together), fitted[best], accuracy


def start_from_probe(model: Transfer, train: ImageDataset, val: ImageDataset, precision: str = "no") -> float:
    """Give `model`, in place, the head that a linear probe has found: linear probing, then fine-tuning (Kumar et al.,
    ICLR 2022, arXiv:2202.10054).

    Args:
        model: with a head "standardised".
        train: the probe is fitted on it. val: chooses its regularisation, and is not fitted.

    Returns:
        The validation accuracy of the probe, which is that of `model` now.

    Raises:
        DataError: another head, or training images that lack a class.
    """
    if not isinstance(model.head, Standardised):
        raise DataError(
            f"a head of type {type(model.head).__name__} cannot start as a linear probe: 'standardised' can"
        )
    of = [(frozen_features(model, data, precision=precision), data.labels.numpy()) for data in (train, val)]
    _, (scaler, regression), accuracy = fit_probe(*of[0], *of[1])
    weight, bias = (torch.from_numpy(values).float() for values in (regression.coef_, regression.intercept_))
    if len(weight) == 1:  # scikit-learn keeps one row for two classes, of the second against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    if len(weight) != model.head.out.out_features:
        raise DataError(f"the training images show {len(weight)} of {model.head.out.out_features} classes: no probe")
    with torch.no_grad():
        model.head.out.weight.copy_(weight)
        model.head.out.bias.copy_(bias)
        model.head.mean.copy_(torch.from_numpy(scaler.mean_))
        model.head.scale.copy_(torch.from_numpy(scaler.scale_))
    return max(accuracy.values())


def probe_probabilities(probe: Pipeline, features: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities M×`classes`; a class that training lacks has 0."""
    probs = np.zeros((len(features), classes))
    probs[:, probe.classes_] = probe.predict_proba(features)
    return probs


def _path(features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]) -> Iterator[tuple[float, Pipeline]]:
    for c in strengths:
        yield c, _probe(c).fit(features, labels)


def _probe(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=ITERATIONS))
