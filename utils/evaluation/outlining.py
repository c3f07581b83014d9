"""Evaluates a network that names an image and outlines its tumour: both at once, the outlines at the stored size."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import nn

from datasets.catalog import HEALTHY
from datasets.store.images import ImageDataset, mask_channels, outlined, read_masks
from datasets.store.index import read_manifest, read_splits
from utils.evaluation.intervals import grouped_bootstrap_ci, mean_interval
from utils.evaluation.mask_predictions import stored_size
from utils.evaluation.pointing import SHARES, point, widened
from utils.evaluation.predict import outputs

COUNTS = ("tp", "fp", "fn")
POINTED = ("pointing", "near", "energy", "area", "near_area")


class Found(NamedTuple):
    """What a network says of N images: `probabilities` N×K, and `outlines`, a row an image, see `describe`; empty where
    the network outlines nothing."""

    probabilities: np.ndarray
    outlines: pd.DataFrame


def describe(model: nn.Module, task, data: ImageDataset, batch_size: int = 32, precision: str = "no") -> Found:
    """Names and outlines of the images of `data`, in their order.

    The columns of `outlines`: `known`, whether the mask of the image is known; `found`, the share of the image that is
    outlined; and where the mask is known and marks something the pixels `tp`, `fp` and `fn` of the outline (any kind of
    tumour, probability above .5), the measures of `pointing.point` of the probability, and `area` and `near_area`, the
    share of the image inside the mask and within the tolerance of it; elsewhere these are NaN. All at the size of the
    stored masks.
    """
    name, probabilities, parts = data.facts.name, [], []
    with_masks = bool(mask_channels(name))
    known = outlined(name) if with_masks else np.zeros(len(read_manifest(name)), bool)
    for batch, out in outputs(model, task.inputs, data, batch_size, precision):
        probabilities.append(task.probabilities(out).cpu().numpy())
        if not task.outline:
            continue
        rows, where = batch["row"].cpu().numpy(), task.where(out)[:, None]
        if with_masks:
            where = F.interpolate(where, (stored_size(name),) * 2, mode="bilinear")
        where = where[:, 0].cpu().numpy()
        inside = where > 0.5
        part = {"known": known[rows], "found": inside.mean(axis=(1, 2))}
        if with_masks:
            masks = read_masks(name, rows).any(axis=1)
            pairs = {"tp": inside & masks, "fp": inside & ~masks, "fn": ~inside & masks}
            measured = {kind: pixels.sum(axis=(1, 2)) for kind, pixels in pairs.items()}
            measured |= point(where, masks) | {"area": masks.mean(axis=(1, 2))}
            measured["near_area"] = widened(masks).mean(axis=(1, 2))
            counts = masks.any(axis=(1, 2)) & known[rows]
            part |= {column: np.where(counts, values, np.nan) for column, values in measured.items()}
        parts.append(pd.DataFrame(part))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Found(np.concatenate(probabilities), table)


def patients(name: str, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Patient of each image, as far as known, else its group."""
    manifest = read_manifest(name)
    table = read_splits(name, manifest)
    known = (manifest.patient if table is None else table.patient).iloc[rows].to_numpy(dtype=object)
    return np.where(known == "", groups, known)


def evaluate_outlines(table: pd.DataFrame, resamples: int = 1000) -> dict:
    """How good the outlines of a prediction table are, with 95 % intervals over patients.

    Args:
        table: with the columns of `describe`, `label` and `patient`.

    Returns:
        `dice`, the mean over patients of the Dice of all their slices together (as in `segmentation.py`), and
        `dice_slices`, the mean over slices, and what `POINTED` names; each {value, low, high}. `outlined`: images
        these are of. `healthy`: the share of images without a tumour in which nothing is outlined, None where
        there are no such images. Empty without outlines.
    """
    if "tp" not in table:
        return {}
    there = table[table.tp.notna()]
    found: dict = {"outlined": len(there), "healthy": None}
    if len(there):
        sums = there.groupby("patient")[list(COUNTS)].sum()
        by_patient = _dice(sums).to_numpy()
        whole = grouped_bootstrap_ci(np.arange(len(sums)), lambda rows: {"dice": by_patient[rows].mean()}, resamples)
        measured = {"dice_slices": _dice(there), **{name: there[name] for name in POINTED}}
        of_patients = {n: mean_interval(v, there.patient, resamples, share=n in SHARES) for n, v in measured.items()}
        found |= whole | of_patients
    healthy = table[table.label == HEALTHY]
    if len(healthy):
        found["healthy"] = mean_interval(healthy.found == 0, healthy.patient, resamples)
    return found


def _dice(counts: pd.DataFrame) -> pd.Series:
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
