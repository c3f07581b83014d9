"""Figures of images: galleries, pairs, heat maps, masks, outlines, reconstructions and the weights of a first layer."""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from utils.report.figures.common import LETTERS, PAGE, PALETTE, below, heat_on_image, panels, plain

MASK_COLOURS = ("#D55E00", "#009E73", "#56B4E9")  # of Okabe and Ito's palette
SEVERAL, SEVERAL_NAME = "#F0E442", "more than one"  # where masks lie on each other
STRENGTH = 0.6  # of a mask's colour on the image
TRUTH, FOUND = "#F0E442", "#56B4E9"  # outlines: yellow on dark tissue, blue beside it, no colour of the heat maps
CAPTION = 14  # pixels above the slices of a walk


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


def _outline(axes: Sequence[plt.Axes], masks: np.ndarray, colour: str, **where) -> None:
    """The border of each mask H×W of 0 and 1 on its axis."""
    for axis, mask in zip(axes, masks, strict=True):
        if mask.any():
            axis.contour(mask, [0.5], colors=colour, linewidths=1, **where)


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
    handles = [plt.Line2D([], [], color=colour, label=name) for name, colour in lines.items()]
    figure.legend(handles=handles, ncols=2, loc="outside lower center", facecolor="0.3", labelcolor="w")
    return figure


def overlay(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Grey image H×W of any range under coloured masks M×H×W → RGB H×W×3 in [0, 1]; `MASK_COLOURS` in their order, and
    `SEVERAL` where masks overlap."""
    low, high = float(image.min()), float(image.max())
    grey = np.repeat(((image - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    canvas = grey.copy()
    for mask, colour in [*zip(masks > 0, MASK_COLOURS, strict=False), ((masks > 0).sum(0) > 1, SEVERAL)]:
        canvas[mask] = (1 - STRENGTH) * grey[mask] + STRENGTH * np.array(to_rgb(colour))
    return canvas


def show_predictions(
    images: np.ndarray, masks: dict[str, np.ndarray], titles: Sequence[str], names: Sequence[str]
) -> Figure:
    """A row of images N×H×W, and below it a row for each of `masks` N×M×H×W, such as "truth" and "prediction"; `names`
    of the M masks stand in the legend."""
    rows = {"image": np.zeros((len(images), 0, *images.shape[1:]))} | masks
    figure, axes = _image_rows(list(rows), list(titles), extra=0.5)
    for line, shown in zip(axes, rows.values(), strict=True):
        for axis, image, mask in zip(line, images, shown, strict=True):
            axis.imshow(overlay(image, mask))
    colours = dict(zip(names, MASK_COLOURS, strict=False))
    if any(((mask > 0).sum(1) > 1).any() for mask in masks.values()):
        colours[SEVERAL_NAME] = SEVERAL
    for name, colour in colours.items():
        axes[0, 0].plot([], [], "s", color=colour, label=plain(name))
    return below(figure, axes[0, 0])


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


def walk(images: np.ndarray, masks: np.ndarray, sequences: Sequence[str], grey: int) -> bytes:
    """A GIF through the slices of one patient: its sequences (`images` N×C×H×W, by name) side by side, and on the right
    the masks N×M×H×W on the channel `grey`."""
    # A file of few colours: 40 greys, and 8 shades of each mask's colour.
    levels, tints = np.linspace(0, 1, 8), [to_rgb(colour) for colour in (*MASK_COLOURS, SEVERAL)]
    shades = [[(1 - STRENGTH) * level + STRENGTH * value for value in tint] for tint in tints for level in levels]
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * v) for colour in [[g] * 3 for g in np.linspace(0, 1, 40)] + shades for v in colour])
    frames, several = [], len(sequences) > 1
    for image, mask in zip(images, masks, strict=True):
        shown = [overlay(one, mask[:0]) for one in (image if several else image[[grey]])]
        row = np.concatenate([*shown, overlay(image[grey], mask)], axis=1)
        page = Image.fromarray((255 * np.pad(row, ((CAPTION, 0), (0, 0), (0, 0)))).astype(np.uint8))
        for place, name in enumerate([*(sequences if several else ["image"]), "masks"]):
            ImageDraw.Draw(page).text((place * image.shape[-1] + 4, 1), name, fill="white")
        frames.append(page.quantize(palette=palette, dither=Image.Dither.NONE))
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=150, loop=0)  # ms a slice
    return file.getvalue()


def gate_maps(image: np.ndarray, mask: np.ndarray, epochs: Sequence[dict[str, np.ndarray]]) -> Figure:
    """One image's gates (rows, deepest first) after up to five epochs (columns), from `GateWatch.maps`; a line marks
    the tumour. `image` and `mask` H×W, the mask 0 and 1."""
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(5, len(epochs))).astype(int))
    gates, whole = list(epochs[0]), {"extent": (0, 1, 1, 0)}  # maps of every size lie on the same square
    figure, axes = panels(len(gates), len(shown) + 1, 0.3 + ((PAGE - 1.1) / (len(shown) + 1) + 0.05) * len(gates))
    for line, gate in zip(axes, gates, strict=True):
        line[1].set_ylabel(gate.replace("gate", "gate "))
        for axis, epoch in zip(line[1:], shown, strict=True):
            drawn = axis.imshow(epochs[epoch][gate][0].astype(np.float32), vmin=0, vmax=1, cmap="viridis", **whole)
            axes[0, list(line).index(axis)].set_title(f"epoch {epoch + 1}")
    for axis in axes[1:, 0]:
        axis.axis("off")
    axes[0, 0].imshow(image, cmap="gray", **whole)
    axes[0, 0].set_title("image")
    marked = [axes[0, 0], *axes[:, 1:].flat]
    for axis in marked:
        axis.set(xticks=[], yticks=[])
    _outline(marked, [mask] * len(marked), PALETTE[1], extent=(0, 1, 0, 1), origin="lower")
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="gate: 0 closed, 1 open")
    return figure
