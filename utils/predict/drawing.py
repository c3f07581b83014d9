"""Draws an answer: each slice beside its heat map or with its outlines, and masks as a NIfTI volume."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from datasets.store.preprocess import crop_box
from utils.evaluation.saliency import grad_cam
from utils.predict.answers import MASK_FROM, Asked
from utils.predict.model import SavedModel
from utils.predict.scans import SEQUENCES, VOLUME, Scan, as_volume
from utils.report.figures.common import heat_on_image
from utils.training.tasks import MultiTask

SHOWN = 6  # slices of a scan
OUTLINES = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73")  # Okabe and Ito's, for the masks in their order
DPI = 110


def heat_maps(model: SavedModel, pixels: Tensor, predicted: np.ndarray) -> np.ndarray:
    """Where the model looks, for prepared pixels N×C×S×S: N×S×S in [0, 1].

    Grad-CAM of the predicted classes (indices N).
    """
    x, layer = model.task.inputs({"image": pixels}), None
    if isinstance(model.task, MultiTask):  # the last convolution of all is the decoder's
        layer = [m for m in model.network.encoder.modules() if isinstance(m, nn.Conv2d)][-1]
    return grad_cam(model.network, x, torch.from_numpy(predicted), layer, scores=model.task.scores)


def draw(model: SavedModel, asked: Asked, limit: int = SHOWN) -> Figure:
    """The slices that the answer rests on most, as read, each with its heat map or outlines below.

    Heat maps are Grad-CAM of the predicted class, of the first model asked: they illustrate and prove nothing.
    """
    chosen = np.sort(np.argsort(-asked.scores, kind="stable")[:limit])
    images = [asked.slices.images[i] for i in chosen]
    images = [image if image.ndim == 2 else image[..., 0] for image in images]
    if asked.masks is None:
        heat = heat_maps(model, asked.pixels[chosen], asked.predicted[chosen])
        shown = [_heated(model, asked.slices.images[i], h) for i, h in zip(chosen, heat, strict=True)]
        what = f"Grad-CAM of the {'likeliest finding' if model.findings else 'predicted class'}"
    else:
        shown = [_outlined(image, asked.masks[i]) for image, i in zip(images, chosen, strict=True)]
        what = "outline of " + ", ".join(model.masks)
    width = max(3.2, 2.4 * len(chosen))
    figure, axes = plt.subplots(2, len(chosen), figsize=(width, 6.2), squeeze=False)
    for column, (image, below) in enumerate(zip(images, shown, strict=True)):
        axes[0, column].imshow(image, cmap="gray")
        axes[1, column].imshow(below)
        if asked.slices.total > 1:
            axes[0, column].set_title(f"slice {asked.slices.numbers[chosen[column]]}", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    for line, text in zip(axes[:, 0], ("as read", what), strict=True):
        line.text(0, -0.04, text, transform=line.transAxes, fontsize=8, va="top")
    figure.suptitle("\n".join(_headline(asked)), fontsize=9)
    figure.text(0.5, 0.005, asked.answer.note, ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def _headline(asked: Asked) -> list[str]:
    answer = asked.answer
    name = answer.file if len(answer.file) < 48 else "…" + answer.file[-47:]
    if answer.classes:
        share = "" if answer.findings else f", {100 * answer.classes[answer.answer]:.0f} %"
        lines = [f"{name}: {answer.answer}{share}"]
    else:
        lines = [f"{name}: " + ", ".join(f"{mask} {part['pixels']:,} px" for mask, part in answer.masks.items())]
    if answer.unlike and answer.unlike["found"]:
        lines.append("UNLIKE THE TRAINING IMAGES")
    return lines


def _heated(model: SavedModel, image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image with the heat of its crop laid over it, RGB."""
    grey = image if image.ndim == 2 else image.max(axis=2)
    top, bottom, left, right = crop_box(image, model.preparation.crop)
    whole = np.zeros(grey.shape, np.float32)
    whole[top:bottom, left:right] = cv2.resize(heat, (right - left, bottom - top))
    return heat_on_image(grey, whole)


def _outlined(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """A grey image H×W with the outlines of masks M×H×W on it, RGB uint8."""
    drawn = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    for mask, colour in zip(masks, OUTLINES, strict=False):
        found, _ = cv2.findContours(np.uint8(mask > MASK_FROM), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        cv2.drawContours(drawn, found, -1, rgb, max(1, image.shape[0] // 256))
    return drawn


def write(model: SavedModel, scan: Scan, asked: Asked, folder: Path) -> list[Path]:
    """Write the figure, and of a volume each mask, below `folder` by the name of the scan.

    Returns the paths, and notes them in the answer.
    """
    paths = [folder / f"{scan.name}.png"]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    figure = draw(model, asked)
    figure.savefig(paths[0], dpi=DPI, metadata={"Description": asked.answer.note})
    plt.close(figure)
    if asked.masks is not None and scan.kind in (VOLUME, SEQUENCES):
        for k, name in enumerate(model.masks):
            paths.append(folder / f"{scan.name}-{name}.nii.gz")
            volume = as_volume(_all_slices(asked, k), scan)
            volume.header["descrip"] = asked.answer.note.encode()[:79]
            nib.save(volume, paths[-1])
    asked.answer.written = [str(path) for path in paths]
    return paths


def _all_slices(asked: Asked, k: int) -> np.ndarray:
    """Mask `k` in every slice of the scan, those that were not looked at included, uint8 N×H×W."""
    first = asked.masks[0][k]
    out = np.zeros((asked.slices.total, *first.shape), np.uint8)
    for number, mask in zip(asked.slices.numbers, asked.masks, strict=True):
        out[number] = mask[k] > MASK_FROM
    return out


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as an aligned text table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
