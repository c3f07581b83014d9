"""Evaluates a network that names an image and outlines its tumour: both at once, the outlines at the stored size."""

import numpy as np
import pandas as pd
from torch import nn

from datasets.catalog import HEALTHY
from datasets.store.images import ImageDataset, mask_channels, outlined, read_masks
from datasets.store.index import read_manifest, read_splits
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import outputs
from utils.evaluation.saliency import SHARES, at_size, point
from utils.evaluation.segmentation import stored_size

POINTED = ("pointing", "near", "energy", "area", "near_area")


def describe(model: nn.Module, task, data: ImageDataset) -> tuple[np.ndarray, pd.DataFrame]:
    """What a network says of the images of `data`, in their order: probabilities N×K, and its outlines, a row an image.

    The columns of the outlines: `known`, whether the mask of the image is known; `found`, the share of the image that
    is outlined; and where the mask is known and marks something the pixels `tp`, `fp` and `fn` of the outline (any kind
    of tumour, probability above .5), and the measures of `saliency.point` of the probability; elsewhere these are NaN.
    All at the size of the stored masks. The table is empty where the network outlines nothing.
    """
    name, probabilities, parts = data.facts.name, [], []
    with_masks = bool(mask_channels(name))
    known = outlined(name) if with_masks else np.zeros(len(read_manifest(name)), bool)
    for batch, out in outputs(model, task.inputs, data, 32):
        probabilities.append(task.probabilities(out).cpu().numpy())
        if not task.outline:
            continue
        rows, where = batch["row"].cpu().numpy(), task.where(out).cpu().numpy()
        if with_masks:
            where = at_size(where, stored_size(name))
        inside = where > 0.5
        part = {"known": known[rows], "found": inside.mean(axis=(1, 2))}
        if with_masks:
            masks = read_masks(name, rows).any(axis=1)
            counts = masks.any(axis=(1, 2)) & known[rows]
            pixels = {"tp": inside & masks, "fp": inside & ~masks, "fn": ~inside & masks}
            measured = {kind: marked.sum(axis=(1, 2)) for kind, marked in pixels.items()} | point(where, masks)
            part |= {column: np.where(counts, values, np.nan) for column, values in measured.items()}
        parts.append(pd.DataFrame(part))
    return np.concatenate(probabilities), pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def patients(name: str, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Patient of each image, as far as known, else its group."""
    manifest = read_manifest(name)
    table = read_splits(name, manifest)
    known = (manifest.patient if table is None else table.patient).iloc[rows].to_numpy(dtype=object)
    return np.where(known == "", groups, known)


def evaluate_outlines(table: pd.DataFrame) -> dict:
    """How good the outlines of a prediction table are (the columns of `describe`, `label` and `patient`).

    Returns:
        `dice`, the mean over patients of the Dice of all their slices together, `dice_slices` over slices, and
        what `POINTED` names; each {value, low, high} over patients. `outlined`: images these are of. `healthy`: the
        share of images without a tumour in which nothing is outlined, None without any. Empty without outlines.
    """
    if "tp" not in table:
        return {}
    there, healthy = table[table.tp.notna()], table[table.label == HEALTHY]
    found: dict = {"outlined": len(there), "healthy": None}
    if len(there):
        by_patient = _dice(there.groupby("patient")[["tp", "fp", "fn"]].sum())
        found["dice"] = mean_interval(by_patient, by_patient.index)
        measured = {"dice_slices": _dice(there), **{name: there[name] for name in POINTED}}
        found |= {n: mean_interval(v, there.patient, share=n in SHARES) for n, v in measured.items()}
    if len(healthy):
        found["healthy"] = mean_interval(healthy.found == 0, healthy.patient)
    return found


def _dice(counts: pd.DataFrame) -> pd.Series:
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
