"""Figures that several chapters draw, and what all figures share: their colours, their width and their letters."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import nn

# Okabe and Ito's colours for all kinds of colour vision, those first that stand out from white as a thin line. The last
# two are too pale for lines and letters on white. tests/report/test_colours.py simulates colour-blind readers.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = 4  # so many of them are dark enough for lines and letters
CLASS_COLOURS = {"glioma": PALETTE[1], "meningioma": PALETTE[0], "notumor": PALETTE[2], "pituitary": PALETTE[3]}
PAGE = 6.3  # inches, the width of a page between its margins: no figure is wider, so that its letters keep their size
LETTERS = 8  # points, the smallest
PUBLISHED_COLOUR = "0.45"
OUTLINE = PALETTE[5]  # of a tumour: light on dark tissue, and no colour of the heat maps
MANY = 12  # classes from which on a figure does not write each number
SETS = {"train": "training", "val": "validation", "test": "test"}  # their names in a figure

plt.rcParams["axes.prop_cycle"] = plt.cycler(color=PALETTE)  # "C0", "C1" … of every figure
plt.rcParams.update({"font.size": 9, "axes.titlesize": 9, "legend.fontsize": LETTERS, "figure.dpi": 120})
plt.rcParams.update({f"{axis}tick.labelsize": LETTERS for axis in "xy"})


def colours_of(classes: Sequence[str]) -> dict[str, str]:
    """The colour of each class, the same in every figure; of unknown classes by their order."""
    return {c: CLASS_COLOURS.get(c, PALETTE[k % len(PALETTE)]) for k, c in enumerate(classes)}


def plain(text: object) -> str:
    """Text that comes from data (a patient, a class, a run), so that matplotlib takes no `$` in it for a formula."""
    return str(text).replace("$", r"\$")


def class_counts(labels: dict[str, pd.Series], classes: Sequence[str]) -> Figure:
    """Images of each class in each set. `labels` maps "train", "val" and "test" to the labels of their images."""
    sets = [pd.DataFrame({"label": values.map(plain), "set": SETS[name]}) for name, values in labels.items()]
    many = len(classes) > MANY
    figure, axis = plt.subplots(figsize=(0.17 * len(classes) + 3, 4) if many else (PAGE, 2.8))
    order = [plain(c) for c in classes]
    sns.countplot(pd.concat(sets, ignore_index=True), x="label", hue="set", order=order, saturation=1, ax=axis)
    if many:
        axis.tick_params(axis="x", rotation=90)
    for bars in () if many else axis.containers:
        axis.bar_label(bars, fontsize=LETTERS)
    axis.set(xlabel="", ylabel="images", title="Images of each class")
    axis.margins(y=0.1)
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title="")  # beside the bars, not on them
    figure.tight_layout()
    return figure


def image_grid(images: np.ndarray, titles: Sequence[str], columns: int = 8, size: float = 0) -> Figure:
    """Grey or RGB images N×H×W[×3] with a caption above each; `size` in inches, 0: as large as the page allows."""
    lines, side = -(-len(images) // columns), size or PAGE / columns
    caption = 0.16 * max((str(text).count("\n") + 1 for text in titles if text), default=0)
    figure, axes = plt.subplots(lines, columns, figsize=(side * columns, (side + caption) * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(plain(text), fontsize=LETTERS, pad=2)
    figure.tight_layout(pad=0.2, w_pad=0.3, h_pad=0.3)
    return figure


def heat_grid(
    images: np.ndarray, heat: np.ndarray, masks: np.ndarray, captions: Sequence[str], columns: int = 8
) -> Figure:
    """Grey images N×H×W uint8 under heat maps N×H×W in [0, 1], the outline of each mask N×H×W of 0 and 1 drawn in; an
    empty mask has none."""
    shown = np.stack([heat_on_image(image, values) for image, values in zip(images, heat, strict=True)])
    figure = image_grid(shown, captions, columns)
    for axis, mask in zip(figure.axes, masks, strict=False):
        if mask.any():
            axis.contour(mask, [0.5], colors=OUTLINE, linewidths=1)
    if masks.any():
        figure.axes[0].plot([], [], color=OUTLINE, linewidth=3, label="outline of the tumour")
        below(figure, figure.axes[0])
    return figure


def curves(history: pd.DataFrame, kept: int, metric: str = "accuracy") -> Figure:
    """Loss and `metric` over the epochs, training against validation; the epoch whose weights were kept is marked."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.5))
    for axis, name in zip(axes, ("loss", metric), strict=True):
        for part in ("train", "val"):
            axis.plot(history.epoch, history[f"{part}_{name}"], marker=".", label=SETS[part])
        axis.axvline(kept, color=PUBLISHED_COLOUR, linestyle=":", label="weights kept")
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
    below(figure, axes[0])
    return figure


def below(figure: Figure, axis: plt.Axes, rows: int = 1, room: float = 0) -> None:
    """The legend of one axis in `rows` lines below the whole figure, where it covers nothing; then lays it all out.

    `room`: inches above it for a label of the whole figure."""
    handles, names = axis.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="lower center", ncols=-(-len(names) // rows), frameon=False)
    figure.tight_layout(rect=(0, (0.08 + 0.19 * rows + room) / figure.get_figheight(), 1, 1))


def counts(table: pd.DataFrame, xlabel: str = "", ylabel: str = "") -> Figure:
    """A table of counts as a heat map with its numbers; colour shows the share of the row, white 0 and darkest 1, so
    that even rows look even."""
    table = table.rename(index=plain, columns=plain)
    share = table.div(table.sum(axis=1).clip(lower=1), axis=0)
    if table.shape[1] > MANY:  # many classes stand below each other
        table, share, xlabel, ylabel = table.T, share.T, ylabel, xlabel
    size = min(PAGE, 1.6 + 0.95 * table.shape[1]), 1 + 0.35 * table.shape[0]
    figure, axis = plt.subplots(figsize=size)
    sns.heatmap(share, annot=table, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    return figure


def first_filters(model: nn.Module, columns: int = 16, colour: bool = False) -> Figure:
    """Up to four rows of weights of the first convolution, each filter stretched from its least to its largest weight:
    the sum over the input channels, which is what a grey image meets, or with `colour` three channels as red, green and
    blue."""
    weights = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.detach().cpu()[: 4 * columns]
    shown = weights.permute(0, 2, 3, 1) if colour else weights.sum(1, keepdim=True).permute(0, 2, 3, 1)
    low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
    shown = ((shown - low) / (high - low).clamp_min(1e-12)).squeeze(-1).numpy()
    columns = min(columns, len(shown))
    return image_grid(shown, [""] * len(shown), columns, size=min(0.6, PAGE / columns))


def heat_on_image(image: np.ndarray, heat: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """Grey image H×W uint8 under a heat map H×W in [0, 1] → RGB H×W×3 in [0, 1]."""
    grey = np.repeat(image[..., None] / 255, 3, axis=2)
    return (1 - strength * heat[..., None]) * grey + strength * heat[..., None] * plt.cm.inferno(heat)[..., :3]
