"""Figures of masks, gates and U-Nets."""

import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from utils.report.figures.common import LETTERS, PAGE, PALETTE, below, plain
from utils.report.tables.common import tested
from utils.report.tables.segmentation import MASK_METRICS

MASK_COLOURS = ("#D55E00", "#009E73", "#56B4E9")  # of Okabe and Ito's palette
SEVERAL, SEVERAL_NAME = "#F0E442", "more than one"  # where masks lie on each other
STRENGTH = 0.6  # of a mask's colour on the image
CAPTION = 14  # pixels above the slices of a walk


def overlay(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Grey image H×W of any range under coloured masks M×H×W → RGB H×W×3 in [0, 1]; `MASK_COLOURS` in their order, and
    `SEVERAL` where masks overlap."""
    low, high = float(image.min()), float(image.max())
    canvas = np.repeat(((image - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    areas = [*zip(masks.astype(bool), MASK_COLOURS, strict=False), (masks.astype(bool).sum(0) > 1, SEVERAL)]
    grey = canvas.copy()
    for mask, colour in areas:
        canvas[mask] = (1 - STRENGTH) * grey[mask] + STRENGTH * np.array(to_rgb(colour))
    return canvas


def show_predictions(
    images: np.ndarray, masks: dict[str, np.ndarray], titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """A row of images N×H×W, and below it a row for each of `masks`, such as "truth" and "prediction".

    Args:
        masks: row title → N×M×H×W; titles: above each image; names: of the M masks, for the legend.
    """
    rows = {"image": np.zeros((len(images), 0, *images.shape[1:]))} | masks
    side = (PAGE - 0.2) / len(images)
    figure, axes = plt.subplots(len(rows), len(images), figsize=(PAGE, 0.5 + side * len(rows)), squeeze=False)
    for row, (side, shown) in enumerate(rows.items()):
        for axis, image, mask, text in zip(axes[row], images, shown, titles, strict=True):
            axis.imshow(overlay(image, mask))
            axis.set(xticks=[], yticks=[])
            axis.set_title(plain(text) if row == 0 else "", fontsize=LETTERS, pad=3)
        axes[row, 0].set_ylabel(side)
    shown = dict(zip(names, MASK_COLOURS, strict=False))
    if any((mask.astype(bool).sum(1) > 1).any() for mask in masks.values()):
        shown[SEVERAL_NAME] = SEVERAL
    for name, colour in shown.items():
        axes[0, 0].plot([], [], "s", color=colour, label=plain(name))
    below(figure, axes[0, 0])
    return figure


def walk(images: np.ndarray, masks: np.ndarray, sequences: Sequence[str], grey: int, milliseconds: int = 150) -> bytes:
    """A GIF through the slices of one patient: its sequences side by side, and on the right the masks.

    Args:
        images: N×C×H×W; masks: N×M×H×W; sequences: names of the C channels; grey: the channel that the masks lie on.
    """
    palette = _palette()
    shown, frames = range(len(sequences)) if len(sequences) > 1 else [], []
    names = [*(sequences[channel] for channel in shown), *(["image"] if not shown else []), "masks"]
    for image, mask in zip(images, masks, strict=True):
        plain_ones = [overlay(image[channel], mask[:0]) for channel in shown or [grey]]
        row = np.concatenate([*plain_ones, overlay(image[grey], mask)], axis=1)
        frame = Image.fromarray((255 * row).astype(np.uint8))
        page = Image.new("RGB", (frame.width, frame.height + CAPTION))
        page.paste(frame, (0, CAPTION))
        for place, name in enumerate(names):
            ImageDraw.Draw(page).text((place * image.shape[-1] + 4, 1), name, fill="white")
        frames.append(page.quantize(palette=palette, dither=Image.Dither.NONE))
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def _palette() -> Image.Image:
    """The colours of an overlay in a file of few colours: 40 greys, and 8 shades of each mask's colour."""
    greys = [(level, level, level) for level in np.linspace(0, 1, 40)]
    shades = [
        tuple((1 - STRENGTH) * level + STRENGTH * value for value in to_rgb(colour))
        for colour in (*MASK_COLOURS, SEVERAL)
        for level in np.linspace(0, 1, 8)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * value) for colour in greys + shades for value in colour])
    return palette


def gate_maps(image: np.ndarray, mask: np.ndarray, epochs: Sequence[dict[str, np.ndarray]], most: int = 5) -> Figure:
    """One image's gates (rows, deepest first) after some of the epochs (columns), from `GateWatch.maps`; a line marks
    the tumour. `image` and `mask` H×W, the mask 0 and 1."""
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).astype(int))
    gates = list(epochs[0])
    side = (PAGE - 1.1) / (len(shown) + 1)
    size = PAGE, 0.3 + (side + 0.05) * len(gates)
    figure, axes = plt.subplots(len(gates), len(shown) + 1, figsize=size, squeeze=False, layout="constrained")
    whole = {"extent": (0, 1, 1, 0)}  # maps of every size lie on the same square
    for row, gate in enumerate(gates):
        axes[row, 1].set_ylabel(gate.replace("gate", "gate "))
        for column, epoch in enumerate(shown, start=1):
            values = epochs[epoch][gate][0].astype(np.float32)
            drawn = axes[row, column].imshow(values, vmin=0, vmax=1, cmap="viridis", **whole)
            axes[0, column].set_title(f"epoch {epoch + 1}")
    axes[0, 0].imshow(image, cmap="gray", **whole)
    axes[0, 0].set_title("image")
    for axis in [axes[0, 0], *axes[:, 1:].flat]:
        axis.set(xticks=[], yticks=[])
        if mask.any():
            ticks = (np.arange(len(mask)) + 0.5) / len(mask)
            axis.contour(ticks, ticks, mask, [0.5], colors="#D55E00", linewidths=1.2)
    for axis in axes[1:, 0]:
        axis.axis("off")
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="gate: 0 closed, 1 open")
    return figure


GATE_VALUES = {"spread": "SD within an image", "saturated": "share of saturated pixels"}


def gate_spread(histories: dict[str, pd.DataFrame]) -> Figure:
    """Spread of each gate within an image and share of saturated pixels over the epochs, a column a training."""
    width = min(PAGE, max(3.4, 0.7 + 1.2 * len(histories)))
    figure, axes = plt.subplots(2, len(histories), figsize=(width, 4), squeeze=False, sharex="col", sharey="row")
    for column, (name, history) in enumerate(histories.items()):
        for row, (value, title) in enumerate(GATE_VALUES.items()):
            for gate, shape in zip(range(1, 5), "osD^", strict=True):
                of_gate = f"gate {gate}{' (deepest)' * (gate == 1)}"
                values = history[f"gate{gate}_{value}"]
                axes[row, column].plot(history.epoch, values, marker=shape, markersize=3, label=of_gate)
            axes[row, 0].set_ylabel(title)
        axes[0, column].set_title(plain(name))
        axes[1, column].set_xlabel("epoch")
    below(figure, axes[0, 0])
    return figure


def parameters_by_width(counts: dict[str, dict[int, int]]) -> Figure:
    """Parameters of each model against `n_filters`: model → width → count."""
    figure, axis = plt.subplots(figsize=(4.4, 2.8))
    for (name, by_width), shape in zip(counts.items(), "osD", strict=False):
        axis.plot(list(by_width), [n / 1e6 for n in by_width.values()], marker=shape, label=name)
    axis.set(xlabel="n_filters", ylabel="million parameters", xscale="log", ylim=(0, None))
    axis.set_xticks(list(by_width), [str(n) for n in by_width])
    axis.minorticks_off()
    axis.legend()
    figure.tight_layout()
    return figure


def by_size(patients: pd.DataFrame, names: Sequence[str], columns: int = 3) -> Figure:
    """Dice of each patient against the size of the true mask, from `segmentation.by_patient`; a panel a mask."""
    lines, columns = -(-len(names) // columns), min(columns, len(names))
    size = min(PAGE, 1 + 2.4 * columns), 0.3 + 2.1 * lines
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        there = patients[patients[f"{name}.pixels"] > 0]
        axis.scatter(there[f"{name}.pixels"], there[f"{name}.dice"], s=14, alpha=0.7)
        axis.set(xscale="log", title=plain(name), ylim=(-0.03, 1.03))
        axis.xaxis.set_minor_formatter("")
    figure.supxlabel("pixels of the true mask, all slices of the patient", fontsize=9)
    for row in axes:
        row[0].set_ylabel("Dice of the patient")
    figure.tight_layout()
    return figure


def unet_metrics(reported: Mapping[str, Mapping[str, float]], records: Mapping[str, dict]) -> Figure:
    """The seven metrics of several U-Nets side by side: above as reported, below ours with 95 % CIs.

    Args:
        reported: model → metric → share; records: model → record of a run, all of one data set and budget.
    """
    metrics = [name for name in MASK_METRICS if name != "hd95"]
    figure, axes = plt.subplots(2, 1, figsize=(PAGE, 5), sharex=True)
    for k, (model, shape) in enumerate(zip(records, "osD^", strict=False)):
        style = {"color": PALETTE[k], "fmt": shape, "markersize": 5, "capsize": 2}
        places = np.arange(len(metrics)) + 0.2 * (k - (len(records) - 1) / 2)
        said = reported.get(model, {})
        axes[0].errorbar(places, [100 * said.get(m, np.nan) for m in metrics], label=plain(model), **style)
        found = [records[model]["metrics"][m] for m in metrics]
        value, low, high = (np.array([100 * entry[key] for entry in found]) for key in ("value", "low", "high"))
        axes[1].errorbar(places, value, yerr=[value - low, high - value], **style)
    axes[0].set_title("reported by S2: BraTS 2020, slice-wise split, pooled over batches")
    for record in list(records.values())[:1]:
        run, epochs = record["run"], record["training"]["epochs"]
        where = f"{plain(run['dataset'])}, {tested(record)}"
        axes[1].set_title(f"here: {where}, {run['image_size']} pixels, {epochs} epochs")
    axes[1].set_xticks(range(len(metrics)), [MASK_METRICS[m].replace(" %", "") for m in metrics])
    for axis in axes:
        axis.set(ylabel="percent", ylim=(-4, 104))
        for line in range(1, len(metrics)):
            axis.axvline(line - 0.5, color="0.85", linewidth=0.8)
    below(figure, axes[0])
    return figure
