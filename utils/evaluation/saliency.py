"""Where does a network look? Grad-CAM, and whether it points at the outlined tumour.

Pointing game (Zhang et al. 2016, arXiv:1608.00507): how often the maximum of a map lies inside the outline. Energy
inside (Wang et al. 2020, arXiv:1910.01279): which share of a map does. A point at random, and an even map, reach the
share of the image that the tumour fills; a map of the brightness shows what bright places alone would reach. A map of
8×8 places cannot hit a small tumour's very pixels: `near` allows the 15 pixels of the original game.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.store.images import ImageDataset, read_masks
from models import MULTITASK
from models.backbones import Transfer
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import Batch, outputs, recording

TOLERANCE = 15  # pixels of the stored image by which the maximum may miss the outline
# Share of the stored image that a tumour fills: about a third of Cheng's slices each.
SIZES = {"small": (0.0, 0.015), "medium": (0.015, 0.035), "large": (0.035, 1.01)}
SHARES = ("pointing", "near", "bright_pointing", "bright_near")  # of images, whose limits at 0 and 1 are exact
MEASURED = ("pointing", "near", "energy", "area", "near_area", "bright_pointing", "bright_near", "bright_energy")


def grad_cam(
    model: nn.Module, x: Tensor, target: Tensor, scores: Callable[[Any], Tensor] = lambda outputs: outputs
) -> np.ndarray:
    """Grad-CAM: where the features support class `target` (Selvaraju et al. 2017, arXiv:1610.02391). The features are
    a backbone's `map`, the bottleneck of a multi-task network, or the output of the last convolution, B×D×s×s.

    Args:
        x: input B×C×S×S; target: class index of each image, B.
        scores: what the model returns → B×K, where these are not its logits.

    Returns:
        B×S×S in [0, 1]; all 0 where nothing supports the class.
    """
    if type(model).__name__ in MULTITASK:
        layer = model.encoder[-1]
    else:
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        layer = model.map if isinstance(model, Transfer) else convolutions[-1]
    with torch.enable_grad(), recording([layer]) as kept:
        score = scores(model.eval()(x.detach().clone().requires_grad_())).gather(1, target[:, None]).sum()
        gradient = torch.autograd.grad(score, kept[0])[0]
    heat = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()  # B×1×s×s
    heat = F.interpolate(heat, x.shape[-2:], mode="bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).float().cpu().numpy()


def point(heat: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """How well maps B×S×S, at least 0, point at what masks B×S×S mark, B each: `pointing`, the share of a map's largest
    values that lie inside (0 or 1 where there is one such place); `near`, of those inside or within `TOLERANCE`;
    `energy`, the share of the whole map inside; all 0 where the map is 0 everywhere. `area` and `near_area` are the
    shares of the image that lie inside and near, which a point at random reaches."""
    heat, inside = heat.astype(np.float64), masks > 0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE + 1,) * 2)
    near = np.stack([cv2.dilate(mask.astype(np.uint8), disc) for mask in masks]) > 0
    top = heat.max(axis=(1, 2), keepdims=True)
    largest, total = (heat == top) & (top > 0), heat.sum(axis=(1, 2))
    places = np.maximum(largest.sum(axis=(1, 2)), 1)
    return {
        "pointing": (largest & inside).sum(axis=(1, 2)) / places,
        "near": (largest & near).sum(axis=(1, 2)) / places,
        "energy": (heat * inside).sum(axis=(1, 2)) / np.where(total > 0, total, 1),
        "area": inside.mean(axis=(1, 2)),
        "near_area": near.mean(axis=(1, 2)),
    }


def at_size(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps B×s×s enlarged or reduced to B×size×size, bilinear."""
    return F.interpolate(torch.from_numpy(maps)[:, None], (size, size), mode="bilinear")[:, 0].numpy()


def pointing_table(
    model: nn.Module, data: ImageDataset, inputs: Callable[[Batch], Tensor], scores: Callable[[object], Tensor]
) -> pd.DataFrame:
    """Where Grad-CAM of the predicted class points in every image of `data` with a pixel inside an outline, a row each.

    Args:
        inputs: batch → model inputs; scores: what the model returns → B×K, the larger the likelier.

    Returns:
        `row` of the manifest, `predicted` class index, the measures of `point`, those of the image itself with
        `bright_` before them, and `blank`, whether the map is 0 everywhere.
    """
    parts = []
    for batch, found in outputs(model, inputs, data, batch_size=32):
        rows = batch["row"].cpu().numpy()
        masks = read_masks(data.facts.name, rows).any(axis=1)
        there = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(there):
            continue
        predicted = scores(found).argmax(1)[there]
        heat = grad_cam(model, inputs(batch)[there], predicted, scores)
        image = batch["image"][there, 0].float().cpu().numpy()
        of_map, of_image = (point(at_size(maps, masks.shape[-1]), masks[there]) for maps in (heat, image))
        part = {"row": rows[there], "predicted": predicted.cpu().numpy(), "blank": heat.max(axis=(1, 2)) == 0}
        part |= of_map | {f"bright_{name}": of_image[name] for name in ("pointing", "near", "energy")}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def summarise(table: pd.DataFrame) -> dict[str, dict]:
    """Every measure of a pointing table (with `label`, `predicted` by name and `patient`), by group of images.

    Returns:
        group → `images`, `patients`, `blank` (number of maps that are 0 everywhere) and {value, low, high}, over
        patients, of what `MEASURED` names, of `gain`, near minus its area, and of `gain_bright`, near minus that of the
        brightness. Groups: `all`, each label, `SIZES`, and images named `right` or `wrong`, as far as there are any.
    """
    right = table.label == table.predicted
    groups = {"all": table.label.notna(), **{label: table.label == label for label in sorted(table.label.unique())}}
    groups |= {name: (table.area >= low) & (table.area < high) for name, (low, high) in SIZES.items()}
    table = table.assign(gain=table.near - table.near_area, gain_bright=table.near - table.bright_near)
    found = {}
    for name, chosen in (groups | {"right": right, "wrong": ~right}).items():
        if len(part := table[chosen]):
            found[name] = {"images": len(part), "patients": part.patient.nunique(), "blank": int(part.blank.sum())}
            found[name] |= {
                column: mean_interval(part[column], part.patient, share=column in SHARES)
                for column in (*MEASURED, "gain", "gain_bright")
            }
    return found
