"""Evaluates a classifier on the test set: its predictions as a table, and every metric with a 95 % CI.

Metrics are torchmetrics', but the AUC, which ranks within folds only; intervals are those of `intervals.py`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from datasets.catalog import HEALTHY
from datasets.labels import viewed
from datasets.store.index import read_manifest
from utils.evaluation.intervals import (
    Interval,
    as_record,
    grouped_ci,
    groups_with,
    mean_interval,
    t_interval,
    without_limits,
)
from utils.training.data import RunData

CALIBRATION_BINS = 15
SMALLEST = 1e-7  # probability, for logarithms: what single precision leaves beside 1
SLOPES = -10.0, 100.0  # between which the slope of calibration is sought
TOP_K = (3, 5)  # where there are more classes: whether the true one is among the k likeliest
NOTHING = without_limits(None)
FEWEST = 20  # images with a tumour, or without: of fewer no rate is reported, since one error would be over 5 %


def prediction_table(
    name: str,
    rows: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    probabilities: np.ndarray,
    predicted: np.ndarray | None = None,
    target: str = "label",
) -> pd.DataFrame:
    """A row a test image: path, label, group, predicted, and `p_CLASS` for every class.

    Args:
        rows: of the manifest, those that were tested; groups, probabilities: N and N×K, in their order.
        predicted: class indices N, where another rule than the largest probability decides.
        target: key of `labels.TARGETS`, of which `classes` are.
    """
    predicted = probabilities.argmax(1) if predicted is None else predicted
    manifest = read_manifest(name).iloc[rows]
    # Single precision, as the networks compute: rounded further, calibration and thresholds near 0 and 1 would differ.
    return pd.DataFrame(
        {
            "path": manifest.path.to_numpy(),
            "label": viewed(manifest.label, target).to_numpy(),
            "group": groups,
            "predicted": np.asarray(classes)[predicted],
            **{f"p_{c}": probabilities[:, i].astype(np.float32) for i, c in enumerate(classes)},
        }
    )


def run_table(data: RunData, probabilities: np.ndarray) -> pd.DataFrame:
    """`prediction_table` of a run's test set: probabilities N×K of the classes that it was trained on.

    An external set that says no more than tumour or none is asked no more: the probabilities of all tumours are added.
    """
    tested = data.split.test_set, data.split.test, data.split.test_groups
    return prediction_table(*tested, data.test_classes, data.asked(probabilities), target=data.test_target)


def validation_table(data: RunData, probabilities: np.ndarray) -> pd.DataFrame:
    """`prediction_table` of a run's validation set: what is chosen after training is chosen on it."""
    validated = data.run.dataset, data.split.val, data.split.groups[data.split.val]
    return prediction_table(*validated, data.classes, probabilities, target=data.run.target)


def area_under_roc(positive: np.ndarray, scores: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
    """Share of the pairs of a positive and a negative row that `scores` rank right, a tie counted half (Mann-Whitney).

    N×K truth values and N×K scores → K areas; NaN in a column without a pair. Where folds are joined (`fold` of each
    row), only pairs of one fold are counted, since each network has a scale of its own (Forman and Scholz 2010,
    doi:10.1145/1882471.1882479): the mean of the folds, weighted by their pairs.
    """
    from scipy.stats import rankdata  # here, as all that takes seconds to import and metrics alone need

    fold = np.zeros(len(scores)) if fold is None else fold
    right = pairs = np.zeros(scores.shape[1])
    for one in np.unique(fold):
        yes, ranks = positive[fold == one], rankdata(scores[fold == one], axis=0)
        count = yes.sum(0)
        # A positive's rank counts the positives below it as well: 1 to `count`, whatever their order.
        right = right + (ranks * yes).sum(0) - count * (count + 1) / 2
        pairs = pairs + count * (len(yes) - count)
    return np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def groups_ranked(groups: Sequence, positive: np.ndarray, fold: np.ndarray) -> int:
    """In how many groups an area is counted, for `of_share`: as many as there are pairs of one fold that share none."""
    sides = [[groups_with(groups, (fold == one) & side) for side in (positive, ~positive)] for one in np.unique(fold)]
    return sum(map(min, sides))


def point_metrics(
    truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, healthy: int | None, fold: np.ndarray
) -> dict[str, float]:
    """All metrics of one sample of images.

    Args:
        truth, predicted: N class indices; probabilities: N×K, of which AUC, confidence and calibration are taken.
        healthy: index of the class without tumour; adds `tumour_` sensitivity, specificity and auc, tumour or none.
        fold: of each image: an AUC ranks within folds only.

    Returns:
        accuracy, mean confidence, calibration_error (15 equal bins; Guo et al. 2017, arXiv:1706.04599), brier (the sum
        over classes of the squared error of a probability, from 0 to 2; Brier 1950), macro_ and
        weighted_ precision P, recall R, f1 and f2, with F_β = (1 + β²)·P·R / (β²·P + R), macro_auc (one against the
        rest), top3_ and top5_accuracy of more than five classes, and `CLASS_INDEX.metric` for each class. A class
        without an image has NaN and is left out of macro_; one that is never predicted has precision 0.
    """
    from torchmetrics.functional import classification as F

    scores, target = torch.tensor(probabilities, dtype=torch.float64), torch.tensor(truth)
    predicted = torch.tensor(predicted)
    settings = {"num_classes": scores.shape[1], "validate_args": False}
    out = {"accuracy": (predicted == target).double().mean(), "confidence": scores.amax(1).mean()}
    out["calibration_error"] = F.multiclass_calibration_error(scores, target, n_bins=CALIBRATION_BINS, **settings)
    out["brier"] = ((scores - torch.nn.functional.one_hot(target, scores.shape[1])) ** 2).sum(1).mean()
    for k in TOP_K if scores.shape[1] > max(TOP_K) else ():
        hit = scores.topk(k, dim=1).indices == target[:, None]
        out[f"top{k}_accuracy"] = hit.any(1).double().mean()
    settings |= {"average": None}
    each = {name: getattr(F, f"multiclass_{name}")(predicted, target, **settings) for name in ("precision", "recall")}
    each |= {f"f{b}": F.multiclass_fbeta_score(predicted, target, beta=float(b), **settings) for b in (1, 2)}
    support = torch.bincount(target, minlength=len(scores[0])) / len(target)
    there = support > 0
    for metric, values in each.items():
        out |= {f"macro_{metric}": values[there].mean(), f"weighted_{metric}": (values * support)[there].sum()}
    of_class = truth[:, None] == np.arange(scores.shape[1])
    each["auc"] = torch.from_numpy(area_under_roc(of_class, probabilities, fold))
    out["macro_auc"] = each["auc"][there].mean()
    for metric, values in each.items():
        values[~there] = torch.nan
        out |= {f"{k}.{metric}": value for k, value in enumerate(values)}
    if healthy is not None:
        tumour, called = target != healthy, predicted != healthy
        out["tumour_sensitivity"] = called[tumour].double().mean()  # NaN where there is no tumour
        out["tumour_specificity"] = (~called[~tumour]).double().mean()
        out["tumour_auc"] = area_under_roc(~of_class[:, [healthy]], -probabilities[:, [healthy]], fold).item()
    return {name: float(value) for name, value in out.items()}


def evaluate(
    predictions: pd.DataFrame, classes: Sequence[str], resamples: int = 1000, fold: Sequence[int] | None = None
) -> dict:
    """Every metric of a prediction table with its interval.

    The calibration error has no limits: it is a mean of absolute differences, which chance enlarges.

    Args:
        predictions: from `prediction_table`, or read back from `predictions.csv.gz`.
        fold: of each row, where folds are joined, each of which has a network of its own.

    Returns:
        `metrics` {name: {value, low, high}} with None for what cannot be computed, and for a rate of tumour or none of
        fewer than `FEWEST` images; `per_class` {class: {metric: {value, low, high}, "images": n}};
        `confusion` K×K list (rows truth), `images`, `groups` and `resamples`.
    """
    from sklearn.metrics import confusion_matrix

    code = {c: i for i, c in enumerate(classes)}
    truth, predicted = (predictions[column].map(code).to_numpy() for column in ("label", "predicted"))
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy()
    groups, healthy = predictions.group.to_numpy(), code.get(HEALTHY)
    fold = np.zeros(len(truth)) if fold is None else np.asarray(fold)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        return point_metrics(truth[rows], probabilities[rows], predicted[rows], healthy, fold[rows])

    trials = _trials(groups, truth, predicted, len(classes), healthy, fold)
    full = grouped_ci(groups, statistic, resamples, trials=trials)
    full["calibration_error"] = without_limits(full["calibration_error"]["value"])
    full["calibration_slope"] = calibration_slope(truth, probabilities, groups)
    if healthy is not None:
        sick = int((truth != healthy).sum())
        full |= {f"tumour_{name}": NOTHING for name in too_few(sick, len(truth) - sick)}
    shown = np.bincount(truth, minlength=len(classes))
    confusion = confusion_matrix(truth, predicted, labels=range(len(classes))).tolist()
    return as_record(full, classes, {"images": shown}, predictions, resamples) | {"confusion": confusion}


def calibration_slope(truth: np.ndarray, probabilities: np.ndarray, groups: Sequence) -> Interval:
    """The β by which softmax(β · log p) makes the true classes likeliest: 1 where probabilities are as they should be,
    below 1 where they are too sure, above where too unsure (Cox 1958; one slope for all classes, no intercept).

    {value, low, high}, with a 95 % interval over groups; without a value where no finite slope is best, as after no
    error at all, or where all probabilities are 0 or 1.
    """
    from scipy.optimize import brentq

    logs = np.log(np.clip(probabilities, SMALLEST, None))
    true = logs[np.arange(len(truth)), truth]

    def scores(slope: float) -> np.ndarray:  # derivative of each image's log-likelihood
        return true - (softmax(slope * logs, axis=1) * logs).sum(1)

    ends = [scores(slope).sum() for slope in SLOPES]
    if np.isin(probabilities, (0, 1)).all() or not ends[0] > 0 > ends[1]:
        return without_limits(None)
    slope = brentq(lambda value: scores(value).sum(), *SLOPES)
    weights = softmax(slope * logs, axis=1)
    information = ((weights * logs**2).sum(1) - (weights * logs).sum(1) ** 2).sum()
    member = pd.factorize(np.asarray(groups))[0]
    left = slope - np.bincount(member, scores(slope)) / information  # without a group, by one step of Newton's
    return t_interval(slope, left, np.bincount(member), share=False)


def _trials(
    groups: np.ndarray, truth: np.ndarray, predicted: np.ndarray, classes: int, healthy: int | None, fold: np.ndarray
) -> dict[str, int]:
    """In how many groups each of the `point_metrics` is counted, for `of_share`: where F of a class is 1 or 0, so is
    its recall, and of a macro mean the class with the fewest groups decides."""
    every = len(np.unique(groups))
    of_classes = [groups_with(groups, truth == k) for k in range(classes)]
    found = dict.fromkeys(("accuracy", *(f"top{k}_accuracy" for k in TOP_K)), every)
    for metric in ("precision", "recall", "f1", "f2", "auc"):
        found |= {f"macro_{metric}": min(filter(None, of_classes)), f"weighted_{metric}": every}
    for k, count in enumerate(of_classes):
        found |= {f"{k}.{metric}": count for metric in ("recall", "f1", "f2")}
        found |= {f"{k}.precision": groups_with(groups, predicted == k)}
        found |= {f"{k}.auc": groups_ranked(groups, truth == k, fold)}
    if healthy is not None:
        found["tumour_sensitivity"] = groups_with(groups, truth != healthy)
        found["tumour_specificity"] = of_classes[healthy]
        found["tumour_auc"] = groups_ranked(groups, truth != healthy, fold)
    return found


def by_patient(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A row a group (patient): the mean probabilities of its images, the likeliest class, and its commonest label."""
    columns, grouped = [f"p_{c}" for c in classes], predictions.groupby("group", sort=True)
    table, label = grouped[columns].mean(), grouped.label.agg(lambda labels: labels.mode().iloc[0])
    return table.assign(label=label, predicted=np.asarray(classes)[table.to_numpy().argmax(1)]).reset_index()


def by_scan(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same images, each with the answer for its whole group (a patient's scan): the class of the largest mean
    log-probability over the group's images, since a doctor asks about a patient, not a slice."""
    classes = [name for name in predictions if name.startswith("p_")]
    logs = np.log(predictions[classes].clip(lower=SMALLEST)).groupby(predictions.group).transform("mean")
    return predictions.assign(predicted=logs.idxmax(axis=1).str.removeprefix("p_"))


def too_few(tumours: int, healthy: int) -> list[str]:
    """Which of sensitivity, specificity and AUC cannot be reported from so few images with a tumour and without."""
    side = {"sensitivity": tumours, "specificity": healthy, "auc": min(tumours, healthy)}
    return [name for name, images in side.items() if images < FEWEST]


def unseen(predictions: pd.DataFrame, seen: np.ndarray) -> dict | None:
    """Accuracy on the test images whose group training has not seen; None where these are all, or none.

    `seen`: of each row, whether training holds an image of its group (`Split.seen`). Returns `accuracy` {value, low,
    high}, `images`, `groups` and `classes` {label: images}.
    """
    if seen.all() or not seen.any():
        return None
    rest = predictions[~seen]
    return {
        "accuracy": mean_interval(rest.label == rest.predicted, rest.group),
        "images": len(rest),
        "groups": int(rest.group.nunique()),
        "classes": rest.label.value_counts().sort_index().to_dict(),
    }
