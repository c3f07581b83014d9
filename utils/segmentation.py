"""What a segmenter is worth, patient by patient: pixel counts as a table, every metric with a 95 % interval.

Predictions are brought back to the size of the stored masks and judged there, so that runs at different input sizes can
be compared. Counts, metrics of counts and distances are MONAI's; the bootstrap is that of `evaluation.py`.

**Pooling.** The unit is the patient: counts of all slices are added, then the metric is taken, then patients are
averaged. S2 added the counts of a batch of 32 slices, left out channels empty in both, and averaged batches; that
stands beside it as `s2_pooling`. Pooled so, large tumours count more and false alarms on healthy slices hardly at all.

**Empty masks**, of a patient or, for distances in single slices, of a slice (`EMPTY`):

| | Dice, IoU | precision | recall, FNR | HD95 |
|---|---|---|---|---|
| truth and prediction empty | 1 | left out | left out | 0 |
| truth empty alone | 0 | 0 | left out | diagonal of the picture or volume |
| prediction empty alone | 0 | left out | 0, 1 | diagonal |
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from monai.metrics import compute_hausdorff_distance, get_confusion_matrix
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import Dataset
from datasets.store import PackedImages, read_manifest, read_masks
from utils.evaluation import group_intervals, number
from utils.training import make_loader

# our name → MONAI's, of metrics that follow from the counts of pixels
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
EMPTY = {"dice": 1.0, "iou": 1.0}  # value where truth and prediction are empty; other metrics are left out
S2_BATCH = 32
MULTIPLE = 16  # four levels of max-pooling
Predicted = tuple[np.ndarray, np.ndarray]  # manifest rows B, boolean masks B×M×S×S


class Padded(nn.Module):
    """A model that takes any height and width: zeros are added below and on the right, and cut off its output.

    Args:
        model: takes B×C×H×W whose sides `multiple` divides, and returns B×M×H×W.
    """

    def __init__(self, model: nn.Module, multiple: int = MULTIPLE):
        super().__init__()
        self.model, self.multiple = model, multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        return self.model(padded)[..., :height, :width]


def stored_size(name: str) -> int:
    """Side of the stored masks of data set `name`."""
    return int(read_masks(name, np.zeros(1, int)).shape[-1])


def scored(facts: Dataset) -> list[str]:
    """Names of what is scored in a data set: its mask's channels, then the regions that unite some of them."""
    return [*facts.mask_channels, *facts.regions]


def with_regions(masks: np.ndarray, facts: Dataset) -> np.ndarray:
    """Boolean N×M×H×W of the mask's channels → N×K×H×W of all that is `scored`."""
    united = [
        masks[:, [facts.mask_channels.index(c) for c in channels]].any(axis=1) for channels in facts.regions.values()
    ]
    return np.concatenate([masks, *(region[:, None] for region in united)], axis=1)


@torch.no_grad()
def predict_masks(model: nn.Module, task, data: PackedImages, batch_size: int = S2_BATCH) -> Iterator[Predicted]:
    """Predictions of a model for the images of `data`, batch by batch, in order, at the size of the stored masks.

    Any image size: sides that 16 does not divide are padded and cut again.
    """
    size = stored_size(data.facts.name)
    device = next(model.parameters()).device
    padded = Padded(model).eval()
    for batch in make_loader(data, batch_size):
        rows = batch["row"].numpy()
        x = task.inputs({key: value.to(device) for key, value in batch.items()})
        probabilities = task.probabilities(padded(x))
        if probabilities.shape[-1] != size:
            probabilities = F.interpolate(probabilities, (size, size), mode="bilinear")
        yield rows, (probabilities > 0.5).cpu().numpy()


def copy_masks(name: str, rows: np.ndarray, donors: np.ndarray, batch_size: int = S2_BATCH) -> Iterator[Predicted]:
    """Predictions that are other pictures' masks: of `rows`, those of the rows `donors` (`baselines.nearest`)."""
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        yield rows[part], read_masks(name, donors[part]) > 0


def mask_table(name: str, rows: np.ndarray, groups: np.ndarray, predictions: Iterable[Predicted]) -> pd.DataFrame:
    """A row a slice: path, patient, group, pixels, and for each mask that is `scored` its tp, fp, fn and hd95.

    Args:
        name: data set; rows: its tested images, a patient's slices together; groups: group of each of them.
        predictions: from `predict_masks` or `copy_masks`, in the order of `rows`.

    hd95 is the 95th percentile of the Hausdorff distance: in single pictures in pixels of the store; in volumes in
    millimetres, once over the patient's tested slices, the same in each of his rows. On a split by slice these are no
    whole volume, and the distance means little.
    """
    facts = catalog.get(name)
    manifest, size = read_manifest(name).iloc[rows].reset_index(drop=True), stored_size(name)
    table = pd.DataFrame({"path": manifest.path, "patient": manifest.patient, "group": groups, "pixels": size**2})
    counts, distances = [], []
    if facts.slices > 1:
        predictions = _by_patient(predictions, manifest.patient.to_numpy())
    for part, predicted in predictions:
        predicted = with_regions(predicted, facts)
        truth = with_regions(read_masks(name, part) > 0, facts)
        pair = (torch.from_numpy(masks.astype(np.uint8)) for masks in (predicted, truth))
        confusion = get_confusion_matrix(*pair)  # B×K×(tp, fp, tn, fn)
        counts.append(confusion[..., [0, 1, 3]].long().numpy())
        if facts.slices > 1:
            in_plane = facts.size / size  # volumes have 1 mm at the published size
            volume = [masks.swapaxes(0, 1)[None] for masks in (predicted, truth)]  # 1×K×D×H×W
            distances.append(np.repeat(hd95(*volume, spacing=(1.0, in_plane, in_plane)), len(part), axis=0))
        else:
            distances.append(hd95(predicted, truth))
    counts, distances = np.concatenate(counts), np.concatenate(distances).round(3)
    for k, mask in enumerate(scored(facts)):
        table[[f"{mask}.tp", f"{mask}.fp", f"{mask}.fn"]] = counts[:, k]
        table[f"{mask}.hd95"] = distances[:, k]
    return table


def _by_patient(predictions: Iterable[Predicted], patients: np.ndarray) -> Iterator[Predicted]:
    """Batches of predictions put together, a patient at a time; `patients` names the owner of each picture."""
    rows, masks, done = [], [], 0
    ends = [*np.flatnonzero(patients[1:] != patients[:-1]) + 1, len(patients)]
    for batch in predictions:
        rows, masks = [*rows, *batch[0]], [*masks, *batch[1]]
        while ends and done + len(rows) >= ends[0]:
            mine = ends.pop(0) - done
            yield np.array(rows[:mine]), np.stack(masks[:mine])
            rows, masks, done = rows[mine:], masks[mine:], done + mine


def hd95(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """95th percentile of the Hausdorff distance of boolean B×K×[D×]H×W, B×K; empty masks as the table above says.

    `spacing` is the size of a voxel along each axis, 1 by default.
    """
    axes = tuple(range(2, predicted.ndim))
    there, wanted = predicted.any(axis=axes), truth.any(axis=axes)
    diagonal = np.linalg.norm(np.array(predicted.shape[2:]) * (spacing or 1.0))
    out = np.where(there | wanted, diagonal, 0.0)
    for b, k in zip(*np.nonzero(there & wanted), strict=True):
        pair = (torch.from_numpy(masks[b, k][None, None]) for masks in (predicted, truth))
        distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        out[b, k] = distance.item()
    return out


def nothing(table: pd.DataFrame) -> pd.DataFrame:
    """The mask table of somebody who never marks a pixel, what every table has to be compared with."""
    empty = table.copy()
    for name in [column.removesuffix(".tp") for column in table if column.endswith(".tp")]:
        empty[f"{name}.fn"] = table[f"{name}.tp"] + table[f"{name}.fn"]
        empty[[f"{name}.tp", f"{name}.fp"]] = 0
        empty[f"{name}.hd95"] = np.nan  # always the diagonal or 0, which says nothing
    return empty


def from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The `COUNTED` metrics of arrays of pixel counts; NaN for what the rule of empty masks leaves out."""
    counts = np.stack([tp, fp, pixels - tp - fp - fn, fn], axis=-1)
    confusion = torch.as_tensor(counts, dtype=torch.float64)
    values = {ours: compute_confusion_matrix_metric(theirs, confusion).numpy() for ours, theirs in COUNTED.items()}
    empty = np.asarray(tp + fp + fn) == 0
    return values | {name: np.where(empty, value, values[name]) for name, value in EMPTY.items()}


def by_patient(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row a patient: patient, group, and for every name its metrics and `NAME.pixels`, the true mask's size."""
    columns = [f"{name}.{count}" for name in names for count in ("tp", "fp", "fn")]
    patients = table.groupby("patient", sort=True)
    sums, out = patients[["pixels", *columns]].sum(), {"group": patients.group.first()}
    for name in names:
        counts = [sums[f"{name}.{count}"].to_numpy() for count in ("tp", "fp", "fn")]
        values = from_counts(*counts, sums.pixels.to_numpy())
        out |= {f"{name}.{metric}": pd.Series(value, sums.index) for metric, value in values.items()}
        out[f"{name}.hd95"] = patients[f"{name}.hd95"].mean()
        out[f"{name}.pixels"] = sums[f"{name}.tp"] + sums[f"{name}.fn"]
    return pd.DataFrame(out).reset_index()


def s2_pooling(table: pd.DataFrame, channels: Sequence[str], batch: int = S2_BATCH) -> dict[str, float | None]:
    """S2's way: counts of a batch of slices added, channels empty in both left out, batches and channels averaged."""
    number_of_batch = np.arange(len(table)) // batch
    scores = {metric: [] for metric in COUNTED}
    for name in channels:
        columns = [f"{name}.tp", f"{name}.fp", f"{name}.fn"]
        sums = table[[*columns, "pixels"]].groupby(number_of_batch).sum()
        sums = sums[sums[columns].sum(axis=1) > 0]
        for metric, values in from_counts(*(sums[c].to_numpy() for c in (*columns, "pixels"))).items():
            scores[metric].append(values)
    means = {metric: [np.nanmean(v) for v in values if np.isfinite(v).any()] for metric, values in scores.items()}
    return {metric: number(np.mean(values)) if values else None for metric, values in means.items()}


def evaluate_masks(
    table: pd.DataFrame, channels: Sequence[str], regions: Sequence[str] = (), resamples: int = 1000, seed: int = 0
) -> dict:
    """Every metric of a mask table with its interval, drawn by resampling groups of patients.

    Args:
        table: from `mask_table`, or read back from `ID.predictions.csv`.
        channels, regions: the mask's channels, and what unites some of them.

    Returns:
        `metrics` {metric: {value, low, high}}, the mean over channels of the mean over patients;
        `per_class` {channel or region: {metric: {value, low, high}, "patients": with such a mask}};
        `s2_pooling` {metric: value}; `images`, `patients`, `groups`, `resamples`.
    """
    names = [*channels, *regions]
    patients = by_patient(table, names)
    columns = [f"{name}.{metric}" for name in names for metric in METRICS]
    scores = patients[columns].to_numpy()

    def statistic(rows: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw of patients without any such mask has no recall
            each = np.nanmean(scores[rows], axis=0).reshape(len(names), len(METRICS))
            return np.concatenate([np.nanmean(each[: len(channels)], axis=0), each.ravel()])

    values = statistic(np.arange(len(patients)))
    low, high = group_intervals(patients.group.to_numpy(), statistic, resamples, seed)
    entries = [
        {"value": number(v), "low": number(lo), "high": number(hi)} for v, lo, hi in zip(values, low, high, strict=True)
    ]
    lines = [entries[i : i + len(METRICS)] for i in range(0, len(entries), len(METRICS))]
    overall, *each = (dict(zip(METRICS, line, strict=True)) for line in lines)
    return {
        "metrics": overall,
        "per_class": {
            name: entry | {"patients": int((patients[f"{name}.pixels"] > 0).sum())}
            for name, entry in zip(names, each, strict=True)
        },
        "s2_pooling": s2_pooling(table, channels),
        "images": len(table),
        "patients": len(patients),
        "groups": int(patients.group.nunique()),
        "resamples": resamples,
    }
