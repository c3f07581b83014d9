"""Figures that several chapters draw."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import nn

PUBLISHED_COLOUR = "0.55"
MANY = 12  # classes from which on a figure does not write each number
SETS = {"train": "training", "val": "validation", "test": "test"}  # their names in a figure


def plain(text: object) -> str:
    """Text that comes from data (a patient, a class, a run), so that matplotlib takes no `$` in it for a formula."""
    return str(text).replace("$", r"\$")


def class_counts(labels: dict[str, pd.Series], classes: Sequence[str]) -> Figure:
    """Images of each class in each set. `labels` maps "train", "val" and "test" to the labels of their images."""
    sets = [pd.DataFrame({"label": values.map(plain), "set": SETS[name]}) for name, values in labels.items()]
    many = len(classes) > MANY
    figure, axis = plt.subplots(figsize=(11, 4) if many else (7, 3))
    sns.countplot(pd.concat(sets, ignore_index=True), x="label", hue="set", order=[plain(c) for c in classes], ax=axis)
    if many:
        axis.tick_params(axis="x", rotation=90, labelsize=7)
    for bars in () if many else axis.containers:
        axis.bar_label(bars, fontsize=8)
    axis.set(xlabel="", ylabel="images", title="Images of each class")
    axis.margins(y=0.1)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title="")  # beside the bars, not on them
    figure.tight_layout()
    return figure


def image_grid(images: np.ndarray, titles: Sequence[str], columns: int = 8, size: float = 1.4) -> Figure:
    """Grey or RGB images N×H×W[×3] with a line above each."""
    lines = -(-len(images) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(size * columns, (size + 0.25) * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(plain(text), fontsize=8)
    figure.tight_layout()
    return figure


def curves(history: pd.DataFrame, kept: int, metric: str = "accuracy") -> Figure:
    """Loss and `metric` over the epochs, training against validation; the epoch whose weights were kept is marked."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    for axis, name in zip(axes, ("loss", metric), strict=True):
        for part in ("train", "val"):
            axis.plot(history.epoch, history[f"{part}_{name}"], marker=".", label=SETS[part])
        axis.axvline(kept, color=PUBLISHED_COLOUR, linestyle=":", label="weights kept")
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def counts(table: pd.DataFrame, xlabel: str = "", ylabel: str = "") -> Figure:
    """A table of counts as a heat map with its numbers; colour shows the share of the row."""
    table = table.rename(index=plain, columns=plain)
    figure, axis = plt.subplots(figsize=(1.6 + 0.95 * table.shape[1], 1 + 0.4 * table.shape[0]))
    sns.heatmap(table.div(table.sum(axis=1), axis=0), annot=table, fmt="d", cmap="Blues", cbar=False, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    return figure


def first_filters(model: nn.Module, columns: int = 16) -> Figure:
    """Weights of the first convolution, averaged over its input channels (grey images fill all of them alike)."""
    weights = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.detach().cpu().mean(1).numpy()
    return image_grid(weights[: 4 * columns], [""] * len(weights), min(columns, len(weights)), size=0.6)


def heat_on_image(image: np.ndarray, heat: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """Grey image H×W uint8 under a heat map H×W in [0, 1] → RGB H×W×3 in [0, 1]."""
    grey = np.repeat(image[..., None] / 255, 3, axis=2)
    return (1 - strength * heat[..., None]) * grey + strength * heat[..., None] * plt.cm.inferno(heat)[..., :3]
