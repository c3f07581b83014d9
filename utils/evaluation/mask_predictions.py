"""Compares predicted masks with true ones at the size of the stored masks: pixel counts and distances, a row a slice.

So runs at different input sizes can be compared. Counts and distances are MONAI's; `segmentation.py` turns them into
metrics.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import Dataset
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest
from utils.evaluation.predict import outputs

S2_BATCH = 32
MULTIPLE = 16  # four levels of max-pooling
Predicted = tuple[np.ndarray, np.ndarray]  # manifest rows B, boolean masks B×M×S×S


class Padded(nn.Module):
    """A model that takes any height and width: zeros are added at the bottom and right, and cut off its output.

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


def predict_masks(model: nn.Module, task, data: ImageDataset, batch_size: int = S2_BATCH) -> Iterator[Predicted]:
    """Predictions of a model for the images of `data`, batch by batch, in order, at the size of the stored masks.

    Images may have any size: sides that 16 does not divide are padded, and the output is cut.
    """
    size = stored_size(data.facts.name)
    for batch, logits in outputs(Padded(model), task.inputs, data, batch_size):
        probabilities = task.probabilities(logits)
        if probabilities.shape[-1] != size:
            probabilities = F.interpolate(probabilities, (size, size), mode="bilinear")
        yield batch["row"].cpu().numpy(), (probabilities > 0.5).cpu().numpy()


def copy_masks(name: str, rows: np.ndarray, donors: np.ndarray, batch_size: int = S2_BATCH) -> Iterator[Predicted]:
    """Predictions that are other images' masks: of `rows`, those of the rows `donors` (`baselines.nearest`)."""
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        yield rows[part], read_masks(name, donors[part]) > 0


def mask_table(name: str, rows: np.ndarray, groups: np.ndarray, predictions: Iterable[Predicted]) -> pd.DataFrame:
    """A row a slice: path, patient, group, pixels, and for each mask that is `scored` its tp, fp, fn and hd95.

    Args:
        name: data set; rows: its tested images, a patient's slices together; groups: group of each of them.
        predictions: from `predict_masks` or `copy_masks`, in the order of `rows`.

    hd95 is the 95th percentile of the Hausdorff distance: in single images in pixels of the store; in volumes in
    millimetres, once over all tested slices of a patient, the same in each of the patient's rows. On a slice-wise split
    these slices are no whole volume, and the distance means little.
    """
    from monai.metrics import get_confusion_matrix  # here, since MONAI's import takes seconds

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
    """Batches of predictions put together, a patient at a time; `patients` names the owner of each image."""
    rows, masks, done = [], [], 0
    ends = [*np.flatnonzero(patients[1:] != patients[:-1]) + 1, len(patients)]
    for batch in predictions:
        rows, masks = [*rows, *batch[0]], [*masks, *batch[1]]
        while ends and done + len(rows) >= ends[0]:
            mine = ends.pop(0) - done
            yield np.array(rows[:mine]), np.stack(masks[:mine])
            rows, masks, done = rows[mine:], masks[mine:], done + mine


def hd95(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """95th percentile of the Hausdorff distance of boolean B×K×[D×]H×W, B×K.

    Empty masks count as in the table of `segmentation.py`. `spacing`: size of a voxel along each axis, 1 by default.
    """
    from monai.metrics import compute_hausdorff_distance

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
    """The mask table of empty predictions, a baseline for every table."""
    empty = table.copy()
    for name in [column.removesuffix(".tp") for column in table if column.endswith(".tp")]:
        empty[f"{name}.fn"] = table[f"{name}.tp"] + table[f"{name}.fn"]
        empty[[f"{name}.tp", f"{name}.fp"]] = 0
        empty[f"{name}.hd95"] = np.nan  # it would be the diagonal or 0 everywhere
    return empty
