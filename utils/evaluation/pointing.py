"""Did the network look at the tumour? Compares maps of where a network looked with the outlines of tumours.

Pointing game (Zhang et al. 2016, arXiv:1608.00507): how often the maximum of a map lies inside the outline. Energy
inside (Wang et al. 2020, arXiv:1910.01279): which share of a map does. A point at random, and an even map, reach the
share of the image that the tumour fills; a map of the brightness shows what looking at bright places alone would reach.
A map of 8×8 places cannot hit a small tumour's very pixels: `near` allows the 15 pixels of the original game.
"""

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from datasets.store.images import ImageDataset, read_masks
from models import MULTITASK
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import Batch, outputs
from utils.evaluation.saliency import grad_cam

# Share of the stored image that a tumour fills: below the first it is small, from the second on large. About a third
# of Cheng's slices each.
TOLERANCE = 15  # pixels of the stored image by which the maximum may miss the outline
SIZES = {"small": (0.0, 0.015), "medium": (0.015, 0.035), "large": (0.035, 1.01)}
SHARES = ("pointing", "near", "bright_pointing", "bright_near")  # of images, whose limits at 0 and 1 are exact
MEASURED = ("pointing", "near", "energy", "area", "near_area", "bright_pointing", "bright_near", "bright_energy")


def point(heat: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """How well maps B×S×S, at least 0, point at what masks B×S×S mark.

    Returns:
        B each: `pointing`, the share of a map's largest values that lie inside (0 or 1 where there is one such place);
        `near`, of those inside or within `TOLERANCE`; `energy`, the share of the whole map inside. A map that is 0
        everywhere points nowhere: all are 0.
    """
    heat, inside = heat.astype(np.float64), masks > 0
    top = heat.max(axis=(1, 2), keepdims=True)
    largest, total = (heat == top) & (top > 0), heat.sum(axis=(1, 2))
    places = np.maximum(largest.sum(axis=(1, 2)), 1)
    return {
        "pointing": (largest & inside).sum(axis=(1, 2)) / places,
        "near": (largest & widened(inside)).sum(axis=(1, 2)) / places,
        "energy": (heat * inside).sum(axis=(1, 2)) / np.where(total > 0, total, 1),
    }


def widened(masks: np.ndarray, pixels: int = TOLERANCE) -> np.ndarray:
    """Masks B×S×S and what lies within `pixels` of them, bool."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    return np.stack([cv2.dilate(mask.astype(np.uint8), disc) for mask in masks]) > 0


def deepest(model: nn.Module) -> nn.Module | None:
    """The layer that `grad_cam` looks at where it is not its own choice: of a multi-task network the bottleneck."""
    return model.encoder[-1] if type(model).__name__ in MULTITASK else None


def pointing_table(
    model: nn.Module,
    data: ImageDataset,
    inputs: Callable[[Batch], Tensor],
    scores: Callable[[object], Tensor],
    batch_size: int = 32,
) -> pd.DataFrame:
    """Where Grad-CAM of the predicted class points in every image of `data` whose tumour is outlined, a row each.

    Args:
        model: a classifier in evaluation.
        data: read at the model's size; `read_masks` must have the masks of its rows.
        inputs: batch → model inputs; scores: what the model returns → B×K, the larger the likelier.

    Returns:
        `row` of the manifest, `predicted` class index, `area` (share of the stored image inside the outline) and
        `near_area` (within `TOLERANCE` of it), the measures of `point`, the same for the image itself with `bright_`
        before them, and `blank`, whether the map is 0 everywhere. Images without a pixel inside an outline are left
        out.
    """
    parts = []
    for batch, found in outputs(model, inputs, data, batch_size):
        rows = batch["row"].cpu().numpy()
        masks = read_masks(data.facts.name, rows).any(axis=1)
        there = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(there):
            continue
        x, grey, masks = inputs(batch)[there], batch["image"][there, 0].float().cpu().numpy(), masks[there]
        predicted = scores(found).argmax(1)[there]
        heat = grad_cam(model, x, predicted, deepest(model), scores)
        found = point(at_size(heat, masks.shape[-1]), masks)
        bright = point(at_size(grey, masks.shape[-1]), masks)
        found |= {f"bright_{name}": values for name, values in bright.items()}
        found |= {"row": rows[there], "predicted": predicted.cpu().numpy(), "area": masks.mean(axis=(1, 2))}
        found["near_area"] = widened(masks).mean(axis=(1, 2))
        parts.append(pd.DataFrame(found | {"blank": heat.max(axis=(1, 2)) == 0}))
    return pd.concat(parts, ignore_index=True)


def at_size(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps B×s×s enlarged or reduced to B×size×size, bilinear."""
    return nn.functional.interpolate(torch.from_numpy(maps)[:, None], (size, size), mode="bilinear")[:, 0].numpy()


def summarise(table: pd.DataFrame, resamples: int = 1000) -> dict[str, dict]:
    """Every measure of a pointing table with its 95 % interval over patients, by group of images.

    Args:
        table: from `pointing_table`, with `label`, `predicted` by name and `patient`.

    Returns:
        group → `images`, `patients`, `blank` (number of maps that are 0 everywhere) and {value, low, high} of
        what `MEASURED` names, and of `gain`, near minus its area, and `gain_bright`, near minus that of the brightness,
        image by image. Groups: `all`, each label, `SIZES`, and
        images that were named `right` or `wrong`; those without an image are left out.
    """
    right = table.label == table.predicted
    groups = {"all": np.ones(len(table), bool)} | {
        label: table.label == label for label in sorted(table.label.unique())
    }
    groups |= {name: (table.area >= low) & (table.area < high) for name, (low, high) in SIZES.items()}
    groups |= {"right": right, "wrong": ~right}
    return {name: _of(table[chosen], resamples) for name, chosen in groups.items() if np.any(chosen)}


def _of(table: pd.DataFrame, resamples: int) -> dict:
    found: dict = {"images": len(table), "patients": int(table.patient.nunique()), "blank": int(table.blank.sum())}
    measured = {name: table[name] for name in MEASURED}
    measured |= {"gain": table.near - table.near_area, "gain_bright": table.near - table.bright_near}
    share = {name: name in SHARES for name in measured}
    return found | {n: mean_interval(v, table.patient, resamples, share=share[n]) for n, v in measured.items()}
