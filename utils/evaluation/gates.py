"""Whether the gates of an `AttentionUNet` open on the tumour: their values inside the true mask and outside it."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.store.images import ImageDataset
from models import AttentionUNet
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import outputs


def inside_and_outside(gate: Tensor, tumour: Tensor) -> tuple[Tensor, Tensor]:
    """Mean value of each gate map inside a mask and outside it.

    Args:
        gate: maps B×1×h×w; tumour: boolean masks B×H×W. A pixel of the map counts with the share of it that the mask
            covers, since deep gates are coarser than the mask.

    Returns:
        Two tensors B; NaN where nothing is inside, or nothing outside.
    """
    share = F.adaptive_avg_pool2d(tumour[:, None].float(), gate.shape[-2:])
    inside, outside = ((gate * part).sum((1, 2, 3)) / part.sum((1, 2, 3)) for part in (share, 1 - share))
    return inside, outside


def gate_overlap(
    model: AttentionUNet, task, data: ImageDataset, groups: Sequence, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict]]:
    """The values of each gate inside and outside the tumour, averaged over the images that show one.

    That a gate is spread says only that it is not the same everywhere; a normalised gate is spread by construction.
    The difference between inside and outside says whether the spread has to do with the tumour: 0 if it has not.

    Args:
        data: images with masks, validation or training; groups: group of each of them.

    Returns:
        `gate1` (deepest) to `gate4` → `inside`, `outside` and their `difference`, each {value, low, high} with a 95 %
        interval over groups; empty where no image shows a tumour.
    """
    values: list[list[Tensor]] = []
    maps: list[Tensor] = []
    handles = [gate.register_forward_hook(lambda module, inputs, output: maps.append(output)) for gate in model.gates]
    try:
        for batch, _ in outputs(model, task.inputs, data):
            tumour = batch["mask"].bool().any(1)
            values.append([side.cpu() for gate in maps for side in inside_and_outside(gate, tumour)])
            maps.clear()
    finally:
        for handle in handles:
            handle.remove()
    table = torch.stack([torch.cat(column) for column in zip(*values, strict=True)]).numpy()  # (2 · gates) × images
    shown = np.isfinite(table).all(0)
    if not shown.any():
        return {}
    found, groups = {}, np.asarray(groups)[shown]
    for number, (inside, outside) in enumerate(zip(table[::2, shown], table[1::2, shown], strict=True), start=1):
        sides = {"inside": inside, "outside": outside, "difference": inside - outside}
        found[f"gate{number}"] = {name: mean_interval(v, groups, resamples, seed) for name, v in sides.items()}
    return found
