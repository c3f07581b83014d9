"""What a model is worth on the test part: predictions as a table, every metric with a 95 % interval.

Intervals resample groups (patients, duplicate groups), not images: slices of one patient are not independent.
Metrics are torchmetrics', the bootstrap is SciPy's. Figures of them are in `figures.py`.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from sklearn.metrics import confusion_matrix
from torch import nn
from torchmetrics.functional import classification as F

from datasets.store import PackedImages, read_manifest
from utils.training import make_loader

CALIBRATION_BINS = 15
HEALTHY = "notumor"


@torch.no_grad()
def predict(model: nn.Module, task, data: PackedImages, batch_size: int = 64) -> np.ndarray:
    """Probabilities N×K of the images of `data`, in their order, on the model's device."""
    device = next(model.parameters()).device
    model.eval()
    parts = []
    for batch in make_loader(data, batch_size):
        batch = {key: value.to(device) for key, value in batch.items()}
        parts.append(task.probabilities(model(task.inputs(batch))).cpu().numpy())
    return np.concatenate(parts)


def predict_tta(
    model: nn.Module, task, data: PackedImages, augment: nn.Module, draws: int = 4, batch_size: int = 64, seed: int = 0
) -> np.ndarray:
    """Test-time augmentation: probabilities N×K averaged over each picture as it is and `draws` changed copies of it.

    Args:
        augment: draws changed copies of a batch B×C×S×S, such as one of `tasks.AUGMENTATIONS`; what it draws follows
            from `seed`.
    """
    changed = SimpleNamespace(probabilities=task.probabilities, inputs=lambda batch: augment(task.inputs(batch)))
    total = predict(model, task, data, batch_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(draws):
            total = total + predict(model, changed, data, batch_size)
    return total / (draws + 1)


def prediction_table(
    name: str,
    rows: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    probabilities: np.ndarray,
    predicted: np.ndarray | None = None,
) -> pd.DataFrame:
    """A row a test image: path, label, group, predicted, and `p_CLASS` for every class.

    Args:
        rows: the manifest rows that were tested; groups: the group of each of them.
        probabilities: N×K, in the order of `rows` and `classes`.
        predicted: class indices N, where another rule than the largest probability decides.
    """
    predicted = probabilities.argmax(1) if predicted is None else predicted
    manifest = read_manifest(name).iloc[rows]
    table = pd.DataFrame(
        {
            "path": manifest.path.to_numpy(),
            "label": manifest.label.to_numpy(),
            "group": groups,
            "predicted": np.asarray(classes)[predicted],
        }
    )
    # Five digits keep the file small; ranks within them decide nothing that a table shows.
    return table.assign(**{f"p_{c}": probabilities[:, i].round(5) for i, c in enumerate(classes)})


def point_metrics(
    truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, healthy: int | None = None
) -> dict[str, float]:
    """All metrics of one sample of images.

    Args:
        truth: N class indices; probabilities: N×K, of which AUC, confidence and calibration are taken; predicted: N
            class indices, of which all others are.
        healthy: index of the class without tumour; adds `tumour_` sensitivity, specificity and auc, tumour or none.

    Returns:
        accuracy, mean confidence, calibration_error (15 equal bins), macro_/weighted_ precision, recall, f1, f2,
        macro_auc (one against the rest), and `CLASS_INDEX.metric` for each class. An AUC without both kinds is NaN;
        precision or recall of something that does not occur counts 0.
    """
    scores, target = torch.tensor(probabilities, dtype=torch.float64), torch.tensor(truth)
    predicted = torch.tensor(predicted)
    settings = {"num_classes": scores.shape[1], "validate_args": False}
    out = {
        "accuracy": (predicted == target).double().mean(),
        "confidence": scores.amax(1).mean(),
        "calibration_error": F.multiclass_calibration_error(scores, target, n_bins=CALIBRATION_BINS, **settings),
    }
    each = {
        "precision": F.multiclass_precision(predicted, target, average=None, **settings),
        "recall": F.multiclass_recall(predicted, target, average=None, **settings),
        "f1": F.multiclass_fbeta_score(predicted, target, beta=1.0, average=None, **settings),
        "f2": F.multiclass_fbeta_score(predicted, target, beta=2.0, average=None, **settings),
    }
    support = torch.bincount(target, minlength=len(scores[0])) / len(target)
    for metric, values in each.items():
        out |= {f"macro_{metric}": values.mean(), f"weighted_{metric}": (values * support).sum()}
    each["auc"] = F.multiclass_auroc(scores, target, average=None, **settings)
    each["auc"][(support == 0) | (support == 1)] = torch.nan
    out["macro_auc"] = each["auc"].mean()
    for metric, values in each.items():
        out |= {f"{k}.{metric}": value for k, value in enumerate(values)}
    if healthy is not None:
        tumour = target != healthy
        called = predicted != healthy
        out["tumour_sensitivity"] = called[tumour].double().mean()  # NaN where there is no tumour
        out["tumour_specificity"] = (~called[~tumour]).double().mean()
        auc = F.binary_auroc(1 - scores[:, healthy], tumour.long())
        out["tumour_auc"] = auc if 0 < tumour.sum() < len(tumour) else torch.nan
    return {name: float(value) for name, value in out.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Thousands of tiny tensor operations: handing each to several threads made them 8 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def group_intervals(
    groups: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals of a vector `statistic(rows)` when whole groups are drawn with replacement.

    Args:
        groups: group of each of N rows. One group alone has no spread: its intervals are NaN.

    Returns:
        (low, high), each as long as the statistic.
    """
    _, member = np.unique(groups, return_inverse=True)
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    size = len(statistic(np.arange(len(groups))))
    if len(rows) < 2:
        return np.full(size, np.nan), np.full(size, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy and torchmetrics warn of draws without spread, or without a class
        drawn = bootstrap(
            (np.arange(len(rows)),),
            lambda chosen: statistic(np.concatenate([rows[g] for g in chosen])),
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        # A draw without one of the classes has no AUC for it; such draws are left out of that metric's interval.
        low, high = np.nanquantile(drawn, (0.025, 0.975), axis=-1)
    return low, high


def mean_interval(values: Sequence, groups: Sequence, resamples: int = 1000, seed: int = 0) -> dict:
    """{value, low, high} of the mean of `values`, with a 95 % interval over `groups`.

    With "right with a change" minus "right without" it is what the change gains, picture by picture.
    """
    values = np.asarray(values, dtype=float)
    _, member = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(member, values), np.bincount(member)
    low, high = group_intervals(
        np.arange(len(sizes)), lambda rows: np.array([sums[rows].sum() / sizes[rows].sum()]), resamples, seed
    )
    return {"value": number(values.mean()), "low": number(low[0]), "high": number(high[0])}


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(value) else round(float(value), 6)


def evaluate(predictions: pd.DataFrame, classes: Sequence[str], resamples: int = 1000, seed: int = 0) -> dict:
    """Every metric of a prediction table with its interval.

    Args:
        predictions: from `prediction_table`, or read back from `ID.predictions.csv`.

    Returns:
        `metrics` {name: {value, low, high}} with None for what cannot be computed;
        `per_class` {class: {metric: {value, low, high}, "images": n}};
        `confusion` K×K list (rows truth), `images`, `groups` and `resamples`.
    """
    code = {c: i for i, c in enumerate(classes)}
    truth, predicted = (predictions[column].map(code).to_numpy() for column in ("label", "predicted"))
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy()
    healthy = code.get(HEALTHY)
    values = point_metrics(truth, probabilities, predicted, healthy)

    def statistic(rows: np.ndarray) -> np.ndarray:
        return np.array(list(point_metrics(truth[rows], probabilities[rows], predicted[rows], healthy).values()))

    with one_thread():
        low, high = group_intervals(predictions.group.to_numpy(), statistic, resamples, seed)
    full = {
        name: {"value": number(value), "low": number(lo), "high": number(hi)}
        for (name, value), lo, hi in zip(values.items(), low, high, strict=True)
    }
    per_class = {
        c: {name.split(".")[1]: entry for name, entry in full.items() if name.startswith(f"{i}.")}
        | {"images": int((truth == i).sum())}
        for c, i in code.items()
    }
    return {
        "metrics": {name: entry for name, entry in full.items() if "." not in name},
        "per_class": per_class,
        "confusion": confusion_matrix(truth, predicted, labels=range(len(classes))).tolist(),
        "images": len(predictions),
        "groups": int(predictions.group.nunique()),
        "resamples": resamples,
    }


def unseen(predictions: pd.DataFrame, seen: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict | None:
    """Accuracy on the test images whose group training has not seen; None where these are all, or none.

    Args:
        seen: of each row of `predictions`, whether training holds an image of its group (`Split.seen`).

    Returns:
        `accuracy` {value, low, high}, `images`, `groups` and `classes` {label: images}.
    """
    if seen.all() or not seen.any():
        return None
    rest = predictions[~seen]
    return {
        "accuracy": mean_interval(rest.label == rest.predicted, rest.group, resamples, seed),
        "images": len(rest),
        "groups": int(rest.group.nunique()),
        "classes": rest.label.value_counts().sort_index().to_dict(),
    }
