"""Figures of masks, gates and U-Nets."""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from utils.reporting.figures.common import plain

MASK_COLOURS = ((1.0, 0.25, 0.2), (0.2, 0.8, 0.3), (0.3, 0.5, 1.0))


def overlay(image: np.ndarray, masks: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """Grey image H×W of any range under coloured masks M×H×W → RGB H×W×3 in [0, 1]; `MASK_COLOURS` in their order."""
    low, high = float(image.min()), float(image.max())
    canvas = np.repeat(((image - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    for mask, colour in zip(masks.astype(bool), MASK_COLOURS, strict=False):
        canvas[mask] = (1 - strength) * canvas[mask] + strength * np.array(colour)
    return canvas


def show_predictions(
    images: np.ndarray, masks: dict[str, np.ndarray], titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """A row of images N×H×W, and below it a row for each of `masks`, such as "truth" and "prediction".

    Args:
        masks: row title → N×M×H×W; titles: above each image; names: of the M masks, for the legend.
    """
    rows = {"image": np.zeros((len(images), 0, *images.shape[1:]))} | masks
    figure, axes = plt.subplots(
        len(rows), len(images), figsize=(1.6 * len(images), 0.4 + 1.6 * len(rows)), squeeze=False
    )
    for row, (side, shown) in enumerate(rows.items()):
        for axis, image, mask, text in zip(axes[row], images, shown, titles, strict=True):
            axis.imshow(overlay(image, mask))
            axis.set(xticks=[], yticks=[])
            axis.set_title(plain(text) if row == 0 else "", fontsize=8)
        axes[row, 0].set_ylabel(side)
    patches = [plt.Rectangle((0, 0), 1, 1, color=c) for c, _ in zip(MASK_COLOURS, names, strict=False)]
    figure.legend(
        patches, [plain(name) for name in names], ncol=len(names), loc="lower center", fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def walk(images: np.ndarray, masks: np.ndarray, scale: int = 2, milliseconds: int = 120) -> bytes:
    """A GIF through the slices of one patient, N×H×W with masks N×M×H×W: plain on the left, masks on the right."""
    frames = []
    for image, mask in zip(images, masks, strict=True):
        pair = np.concatenate([overlay(image, mask[:0]), overlay(image, mask)], axis=1)
        frame = Image.fromarray((255 * pair).astype(np.uint8))
        frames.append(frame.resize((scale * frame.width, scale * frame.height)).quantize(64))
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def gate_maps(image: np.ndarray, epochs: Sequence[dict[str, np.ndarray]], most: int = 6) -> Figure:
    """One image's gates (rows, deepest first) after some of the epochs (columns), from `GateWatch.maps`."""
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).astype(int))
    gates = list(epochs[0])
    figure, axes = plt.subplots(
        len(gates), len(shown) + 1, figsize=(1.5 * (len(shown) + 1), 1.55 * len(gates)), squeeze=False
    )
    for row, gate in enumerate(gates):
        axes[row, 0].imshow(image, cmap="gray")
        axes[row, 0].set_ylabel(gate)
        for column, epoch in enumerate(shown, start=1):
            drawn = axes[row, column].imshow(epochs[epoch][gate][0].astype(np.float32), vmin=0, vmax=1, cmap="viridis")
            axes[0, column].set_title(f"epoch {epoch + 1}", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="gate value: 0 closed, 1 open")
    return figure


GATE_VALUES = {"spread": "SD within an image", "saturated": "share of saturated pixels"}


def gate_spread(histories: dict[str, pd.DataFrame]) -> Figure:
    """Spread of each gate within an image and share of saturated pixels over the epochs, a column a training."""
    figure, axes = plt.subplots(
        2, len(histories), figsize=(max(5, 2.6 * len(histories)), 4.4), squeeze=False, sharex="col", sharey="row"
    )
    for column, (name, history) in enumerate(histories.items()):
        for row, (value, title) in enumerate(GATE_VALUES.items()):
            for gate in range(1, 5):
                axes[row, column].plot(history.epoch, history[f"gate{gate}_{value}"], marker=".", label=f"gate {gate}")
            axes[row, 0].set_ylabel(title)
        axes[0, column].set_title(name, fontsize=9)
        axes[1, column].set_xlabel("epoch")
    axes[0, 0].legend(fontsize=7, title="1 is the deepest")
    figure.tight_layout()
    return figure


def parameters_by_width(counts: dict[str, dict[int, int]]) -> Figure:
    """Parameters of each model against `n_filters`: model → width → count."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    for name, by_width in counts.items():
        axis.plot(list(by_width), [n / 1e6 for n in by_width.values()], marker="o", label=name)
    axis.set(xlabel="n_filters", ylabel="million parameters", xscale="log", ylim=(0, None), title="Parameters")
    axis.set_xticks(list(by_width), [str(n) for n in by_width])
    axis.minorticks_off()
    axis.legend()
    figure.tight_layout()
    return figure


def by_size(patients: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Dice of each patient against the size of the true mask, from `segmentation.by_patient`; a panel a mask."""
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        there = patients[patients[f"{name}.pixels"] > 0]
        axis.scatter(there[f"{name}.pixels"], there[f"{name}.dice"], s=14, alpha=0.7)
        axis.set(xlabel="pixels of the true mask", xscale="log", title=name, ylim=(-0.03, 1.03))
        axis.xaxis.set_minor_formatter("")
    axes[0, 0].set_ylabel("Dice of the patient")
    figure.tight_layout()
    return figure
