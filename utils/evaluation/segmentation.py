"""Evaluates a segmenter patient by patient: a table of pixel counts and distances, a row a slice, and every metric.

Masks are compared at the size of the stored ones, whatever the input size. Metrics and distances are MONAI's. The unit
is the patient: the counts of all slices are added before a metric is computed, then patients are averaged.

**Empty masks**, of a patient or, for distances in single slices, of a slice (`EMPTY`):

| | Dice, IoU | precision | recall, FNR | HD95 |
|---|---|---|---|---|
| truth and prediction empty | 1 | left out | left out | 0 |
| truth empty alone | 0 | 0 | left out | diagonal of the image or volume |
| prediction empty alone | 0 | left out | 0, 1 | diagonal |

HD95 of the patients without such a penalty stands apart (`hd95_both`). Surface Dice and scores by lesion need masks:
they are in tables that were made since they were added, of the others pixel counts alone are known.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import Dataset
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from utils.evaluation.intervals import as_record, grouped_ci, number
from utils.evaluation.predict import outputs

S2_BATCH = 32
MULTIPLE = 16  # four levels of max-pooling
# Our name → MONAI's, of the metrics that follow from counts of pixels.
COUNTED = {
    "dice": "f1 score",
    "iou": "threat score",
    "accuracy": "accuracy",
    "fpr": "fall out",
    "fnr": "miss rate",
    "precision": "precision",
    "recall": "sensitivity",
}
METRICS = (*COUNTED, "hd95")
BESIDE = ("hd95_both", "nsd", "lesion_dice", "lesion_recall")  # from masks, see `beside_dice`
TOLERANCE = 2.0  # of a surface, in pixels of the store, of volumes in millimetres
EMPTY = ("dice", "iou")  # 1 where truth and prediction are empty; other metrics are left out
Predicted = tuple[np.ndarray, np.ndarray]  # manifest rows B, boolean masks B×M×S×S


class Padded(nn.Module):
    """A model B×C×H×W → B×M×H×W whose sides 16 must divide, for any size: zeros are added at the bottom and right, and
    cut off its output."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return self.model(F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE)))[..., :height, :width]


def stored_size(name: str) -> int:
    """Side of the stored masks of data set `name`."""
    return int(read_masks(name, np.zeros(1, int)).shape[-1])


def scored(facts: Dataset) -> list[str]:
    """Names of what is scored in a data set: its mask's channels, then the regions that unite some of them."""
    return [*facts.mask_channels, *facts.regions]


def with_regions(masks: np.ndarray, facts: Dataset) -> np.ndarray:
    """Boolean N×M×H×W of the mask's channels → N×K×H×W of all that is `scored`."""
    parts = [[facts.mask_channels.index(channel) for channel in channels] for channels in facts.regions.values()]
    return np.concatenate([masks, *(masks[:, part].any(axis=1, keepdims=True) for part in parts)], axis=1)


def predict_masks(model: nn.Module, task, data: ImageDataset) -> Iterator[Predicted]:
    """Predictions of a model for the images of `data`, of any size, in order, at the size of the stored masks."""
    size = stored_size(data.facts.name)
    for batch, logits in outputs(Padded(model), task.inputs, data, S2_BATCH):
        probabilities = F.interpolate(task.probabilities(logits), (size, size), mode="bilinear")
        yield batch["row"].cpu().numpy(), (probabilities > 0.5).cpu().numpy()


def copy_masks(name: str, rows: np.ndarray, donors: np.ndarray) -> Iterator[Predicted]:
    """Predictions that are other images' masks: of `rows`, those of the rows `donors` (`baselines.nearest`)."""
    for start in range(0, len(rows), S2_BATCH):
        yield rows[start : start + S2_BATCH], read_masks(name, donors[start : start + S2_BATCH]) > 0


def mask_table(name: str, rows: np.ndarray, groups: np.ndarray, predictions: Iterable[Predicted]) -> pd.DataFrame:
    """A row a slice: path, patient, group, pixels, and for each mask that is `scored` its tp, fp, fn, hd95 and what
    `beside_dice` gives.

    `hd95` is in pixels of the store; of volumes in millimetres, over all tested slices of a patient, the same in each
    of the patient's rows (on a slice-wise split these are no whole volume, and the distance means little), and so are
    the others. `rows`: of
    data set `name`, those tested, a patient's slices together; groups and predictions: in their order.
    """
    facts, volumes = catalog.get(name), catalog.get(name).slices > 1
    manifest, size = read_manifest(name).iloc[rows].reset_index(drop=True), stored_size(name)
    table = pd.DataFrame({"path": manifest.path, "patient": manifest.patient, "group": groups, "pixels": size**2})
    parts = []
    for part, predicted in _by_patient(predictions, manifest.patient.to_numpy()) if volumes else predictions:
        predicted, truth = (with_regions(masks, facts) for masks in (predicted, read_masks(name, part) > 0))
        pairs = (predicted & truth, predicted & ~truth, ~predicted & truth)
        unit, voxel = (predicted, truth), None
        if volumes:
            voxel = (1.0, facts.size / size, facts.size / size)  # volumes have 1 mm at the published size
            unit = [masks.swapaxes(0, 1)[None] for masks in unit]  # 1×K×D×H×W
        distance = hd95(*unit, voxel)
        surfaces = [np.repeat(v, len(part) // len(v), axis=0) for v in (distance, *beside_dice(*unit, distance, voxel))]
        parts.append([*(pixels.sum(axis=(2, 3)) for pixels in pairs), *(values.round(3) for values in surfaces)])
    named = ("tp", "fp", "fn", "hd95", *BESIDE)
    columns = dict(zip(named, map(np.concatenate, zip(*parts, strict=True)), strict=True))  # N×K
    names = scored(facts)
    return table.assign(**{f"{n}.{name}": v[:, k] for k, n in enumerate(names) for name, v in columns.items()})


def _by_patient(predictions: Iterable[Predicted], patients: np.ndarray) -> Iterator[Predicted]:
    """Batches of predictions put together, a patient at a time; `patients` names the owner of each image."""
    each = ((row, mask) for batch in predictions for row, mask in zip(*batch, strict=True))
    for _, images in groupby(zip(patients, each, strict=True), key=lambda image: image[0]):
        rows, masks = zip(*(image for _, image in images), strict=True)
        yield np.array(rows), np.stack(masks)


def hd95(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """95th percentile of the Hausdorff distance of boolean B×K×[D×]H×W, B×K; of empty masks as in the table above.
    `spacing`: size of a voxel along each axis, 1 by default."""
    from monai.metrics import compute_hausdorff_distance  # here: it takes seconds to import

    axes = tuple(range(2, predicted.ndim))
    there, wanted = predicted.any(axis=axes), truth.any(axis=axes)
    diagonal = np.linalg.norm(np.array(predicted.shape[2:]) * (spacing or 1.0))
    out = np.where(there | wanted, diagonal, 0.0)
    for b, k in zip(*np.nonzero(there & wanted), strict=True):
        pair = (torch.from_numpy(masks[b, k][None, None]) for masks in (predicted, truth))
        distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        out[b, k] = distance.item()
    return out


def beside_dice(
    predicted: np.ndarray, truth: np.ndarray, distance: np.ndarray, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """`BESIDE` of boolean B×K×[D×]H×W and their `hd95`, 4×B×K; NaN where the rule of empty masks leaves one out.

    hd95_both: `hd95` where neither mask is empty. nsd: the share of both surfaces that lies within `TOLERANCE` of the
    other (Nikolov et al. 2018, arXiv:1809.04430), 1 or 0 of empty masks as Dice. lesion_dice: the mean over lesions,
    connected parts, of the Dice of each with the predicted parts that touch it; a predicted part that touches none
    counts as one of 0 (as in BraTS 2023, arXiv:2305.17033, without its dilation). lesion_recall: the share of true
    lesions that a predicted part touches.
    """
    from monai.metrics import compute_surface_dice  # here: it takes seconds to import

    out = np.full((len(BESIDE), *distance.shape), np.nan)
    for at in np.ndindex(distance.shape):
        pair = predicted[at], truth[at]
        empty = [not mask.any() for mask in pair]
        nsd = float(all(empty))
        if not any(empty):
            tensors = (torch.from_numpy(mask[None, None]) for mask in pair)
            how = {"class_thresholds": [TOLERANCE], "include_background": True, "spacing": spacing}
            nsd = compute_surface_dice(*tensors, **how).item()
        out[(slice(None), *at)] = np.nan if any(empty) else distance[at], nsd, *by_lesion(*pair)
    return out


def by_lesion(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """`lesion_dice` and `lesion_recall` of two masks, see `beside_dice`."""
    touching = np.ones((3,) * truth.ndim)  # corners touch
    (found, parts), (true, lesions) = (ndimage.label(mask, touching) for mask in (predicted, truth))
    scores, met = [], set()
    for lesion in range(1, lesions + 1):
        own = set(found[true == lesion]) - {0}
        union, met = np.isin(found, list(own)), met | own
        scores.append(2 * (union & (true == lesion)).sum() / (union.sum() + (true == lesion).sum()))
    count = lesions + parts - len(met)
    return (sum(scores) / count if count else 1.0), (np.mean(np.array(scores) > 0) if scores else np.nan)


def nothing(table: pd.DataFrame) -> pd.DataFrame:
    """The mask table of empty predictions, a baseline for every table."""
    empty = table.drop(columns=[column for column in table if column.endswith(BESIDE)])
    for name in [column.removesuffix(".tp") for column in table if column.endswith(".tp")]:
        empty[f"{name}.fn"] = table[f"{name}.tp"] + table[f"{name}.fn"]
        empty[[f"{name}.tp", f"{name}.fp"]] = 0
        empty[f"{name}.hd95"] = np.nan  # it would be the diagonal or 0 everywhere
    return empty


def from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The `COUNTED` metrics of arrays of pixel counts; NaN for what the rule of empty masks leaves out. Dice = 2·tp /
    (2·tp + fp + fn), IoU = tp / (tp + fp + fn), precision = tp / (tp + fp), recall = tp / (tp + fn)."""
    from monai.metrics.confusion_matrix import compute_confusion_matrix_metric

    confusion = torch.as_tensor(np.stack([tp, fp, pixels - tp - fp - fn, fn], axis=-1), dtype=torch.float64)
    values = {ours: compute_confusion_matrix_metric(theirs, confusion).numpy() for ours, theirs in COUNTED.items()}
    empty = np.asarray(tp + fp + fn) == 0
    return values | {name: np.where(empty, 1.0, values[name]) for name in EMPTY}


def by_patient(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row a patient: patient, group, and for every name its metrics and `NAME.pixels`, the true mask's size."""
    patients = table.groupby("patient", sort=True)
    sums, out = patients.sum(numeric_only=True), {"group": patients.group.first()}
    for name in names:
        tp, fp, fn = (sums[f"{name}.{count}"].to_numpy() for count in ("tp", "fp", "fn"))
        values = from_counts(tp, fp, fn, sums.pixels.to_numpy())
        out |= {f"{name}.{metric}": pd.Series(value, sums.index) for metric, value in values.items()}
        there = [f"{name}.{metric}" for metric in ("hd95", *BESIDE) if f"{name}.{metric}" in table]
        out |= {column: patients[column].mean() for column in there}
        out |= {f"{name}.pixels": pd.Series(tp + fn, sums.index)}
    return pd.DataFrame(out).reset_index()


def s2_pooling(table: pd.DataFrame, channels: Sequence[str], batch: int = S2_BATCH) -> dict[str, float | None]:
    """S2's way: counts of a batch of slices added, channels empty in both left out, batches and channels averaged.
    Large tumours count more than by patient, and false alarms on healthy slices hardly."""
    scores = []
    for name in channels:
        columns = [f"{name}.tp", f"{name}.fp", f"{name}.fn"]
        sums = table[[*columns, "pixels"]].groupby(np.arange(len(table)) // batch).sum()
        sums = sums[sums[columns].sum(axis=1) > 0]
        values = from_counts(*(sums[c].to_numpy() for c in (*columns, "pixels")))
        scores.append(pd.DataFrame(values).mean())  # of the batches that have one
    return {metric: number(value) for metric, value in pd.DataFrame(scores).mean().items()}


def evaluate_masks(
    table: pd.DataFrame, channels: Sequence[str], regions: Sequence[str] = (), resamples: int = 1000
) -> dict:
    """Every metric of a mask table with its interval over groups of patients.

    Returns:
        `metrics` {metric: {value, low, high}}, the mean over channels of the mean over patients;
        `per_class` {channel or region: {metric: {value, low, high}, "patients": with such a mask}};
        `s2_pooling` {metric: value}; `images`, `patients`, `groups`, `resamples`.
    """
    names = [*channels, *regions]
    patients = by_patient(table, names)
    nsd = patients.get(f"{names[0]}.nsd")  # joined folds have what all of them have
    metrics = METRICS if nsd is None or nsd.isna().any() else (*METRICS, *BESIDE)
    scores = patients[[f"{name}.{metric}" for name in names for metric in metrics]]
    keys = [f"{k}.{metric}" for k in range(len(names)) for metric in metrics]

    def statistic(rows: np.ndarray) -> dict[str, float]:
        each = scores.iloc[rows].mean()  # of the patients who have one: without any such mask there is no recall
        overall = each.to_numpy().reshape(len(names), -1)[: len(channels)]
        return dict(zip([*metrics, *keys], [*pd.DataFrame(overall).mean(), *each], strict=True))

    shares = [name for name in [*metrics, *keys] if "hd95" not in name]
    found = grouped_ci(patients.group, statistic, resamples, trials=dict.fromkeys(shares))
    for name in found.keys() - shares:  # a distance
        found[name]["low"] = found[name]["low"] and max(found[name]["low"], 0.0)
    with_mask = [(patients[f"{name}.pixels"] > 0).sum() for name in names]
    record = as_record(found, names, {"patients": with_mask}, table, resamples)
    return record | {"s2_pooling": s2_pooling(table, channels), "patients": len(patients)}
