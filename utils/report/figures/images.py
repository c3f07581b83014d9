"""Figures of images: galleries, pairs, heat maps, masks, outlines, reconstructions and the weights of a first layer."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.report.figures.common import LETTERS, PAGE, below, heat_on_image, panels, plain

TRUTH, FOUND = "#F0E442", "#56B4E9"  # outlines: yellow on dark tissue, blue beside it, no colour of the heat maps
NESTED = (TRUTH, FOUND, "#D55E00")  # of masks inside each other, from the outer to the inner; Okabe and Ito's, too


def image_grid(images: np.ndarray, titles: Sequence[str], columns: int = 8, size: float = 0) -> Figure:
    """Grey or RGB images N×H×W[×3] with a caption above each; `size` in inches, 0: as large as the page allows."""
    lines, side = -(-len(images) // columns), size or PAGE / columns
    caption = 0.16 * max((str(text).count("\n") + 1 for text in titles if text), default=0)
    figure, axes = panels(lines, columns, (side + caption) * lines, side * columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(plain(text), fontsize=LETTERS, pad=2)
    return figure


def beside(first: np.ndarray, second: np.ndarray, titles: tuple[str, str]) -> Figure:
    """Images N×H×W, each followed by what was made of it."""
    both = np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
    return image_grid(both, list(titles) * len(first))


def duplicate_pairs(pairs: pd.DataFrame, thumbnails: np.ndarray, table: pd.DataFrame) -> Figure:
    """Pairs (`i` and `j`, rows of `thumbnails` and `table`) side by side. Above the first stands how they agree
    (`kind`), above the second its `transform`, below that the label and the published set of each."""
    first, second = pairs.assign(row=pairs.i, said=pairs.kind), pairs.assign(row=pairs.j, said=pairs["transform"])
    both = pd.concat([first, second]).sort_index(kind="stable")
    facts = table.iloc[both.row]
    parts = [f", {part}" if part else "" for part in facts.published_split]
    titles = [f"{said}\n{label}{part}" for said, label, part in zip(both.said, facts.label, parts, strict=True)]
    return image_grid(thumbnails[both.row], titles, columns=6)


def heat_grid(images: np.ndarray, heat: np.ndarray, masks: np.ndarray, captions: Sequence[str], columns: int) -> Figure:
    """Grey images N×H×W uint8 under heat maps N×H×W in [0, 1], the outline of each mask N×H×W of 0 and 1 drawn in; an
    empty mask has none."""
    shown = np.stack([heat_on_image(image, values) for image, values in zip(images, heat, strict=True)])
    figure = image_grid(shown, captions, columns)
    _outline(figure.axes[: len(masks)], masks, FOUND)
    if masks.any():
        figure.axes[0].plot([], [], color=FOUND, linewidth=3, label="outline of the tumour")
        figure.set_figheight(figure.get_figheight() + 0.3)
    return below(figure, figure.axes[0])


def _outline(axes: Sequence[plt.Axes], masks: np.ndarray, colour: str, filled: bool = False) -> None:
    """The border of each mask H×W of 0 and 1 on its axis; `filled`: its area, through which the image is seen."""
    for axis, mask in zip(axes, masks, strict=True):
        if mask.any() and filled:
            axis.contourf(mask, [0.5, 1], colors=colour, alpha=0.5)
        elif mask.any():
            axis.contour(mask, [0.5], colors=colour, linewidths=1)


def _image_rows(names: Sequence[str], titles: Sequence[str], extra: float) -> tuple[Figure, np.ndarray]:
    """Square axes as wide as the page, a row a name and a column a title; `extra`: inches of height for letters."""
    side = (PAGE - 0.2) / len(titles)
    figure, axes = panels(len(names), len(titles), extra + side * len(names))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(plain(text), fontsize=LETTERS, pad=3)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=LETTERS)
    return figure, axes


def _legend(figure: Figure, lines: dict[str, str]) -> None:
    """Names and colours of outlines, on grey as the images are, below all of the figure."""
    handles = [plt.Line2D([], [], color=colour, label=plain(name)) for name, colour in lines.items()]
    figure.legend(handles=handles, ncols=len(lines), loc="outside lower center", facecolor="0.3", labelcolor="w")


def outlines(images: np.ndarray, masks: np.ndarray, maps: dict, titles: Sequence[str], found=None) -> Figure:
    """A row of grey images N×H×W with the outlines of the true `masks`, and below it a row for each of `maps` (title →
    N×H×W in [0, 1]), drawn as heat. `found`: N×H×W, masks of the network, outlined on the images as a second line."""
    rows = {"image": np.zeros_like(images, dtype=float)} | maps
    figure, axes = _image_rows(list(rows), titles, extra=0.6)
    for line, shown in zip(axes, rows.values(), strict=True):
        for axis, image, heat in zip(line, images, shown, strict=True):
            axis.imshow(heat_on_image(image, heat))
        _outline(line, masks, TRUTH)
    lines = {"true outline": TRUTH}
    if found is not None:
        lines["outline of the network"] = FOUND
        _outline(axes[0], found, FOUND)
    _legend(figure, lines)
    return figure


def show_predictions(
    images: np.ndarray, masks: dict[str, np.ndarray], titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """A row of grey images N×H×W, and below it the same with the outlines of each of `masks` N×M×H×W, such as "truth"
    and "prediction"; `names` of the M masks, each of which may lie inside the one before it, stand in the legend. The
    third is tinted."""
    rows = {"image": np.zeros((len(images), 0, *images.shape[1:]))} | masks
    figure, axes = _image_rows(list(rows), list(titles), extra=0.6)
    for line, shown in zip(axes, rows.values(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray")
        for colour, mask in zip(NESTED, np.moveaxis(shown, 1, 0), strict=False):
            _outline(line, mask, colour, filled=colour == NESTED[-1])  # its border is mostly that of the one around it
    _legend(figure, dict(zip(names, NESTED, strict=False)))
    return figure


def show_reconstructions(images: np.ndarray, drawn: np.ndarray, titles: Sequence[str]) -> Figure:
    """Three rows: images N×H×W in [0, 1], their reconstructions, and the absolute differences on one scale, which a bar
    beside them gives."""
    away = np.abs(images - drawn)
    rows = {"image": (images, "gray", 1), "reconstructed": (drawn, "gray", 1)}
    rows["difference"] = away, "inferno", np.quantile(away, 0.995)
    figure, axes = _image_rows(list(rows), list(titles), extra=0.3)
    for line, (shown, colours, top) in zip(axes, rows.values(), strict=True):
        for axis, image in zip(line, shown, strict=True):
            last = axis.imshow(image, cmap=colours, vmin=0, vmax=top)
    figure.colorbar(last, ax=axes[2, :], aspect=8)
    return figure
