"""Figures of where networks look, and of outlines."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from utils.evaluation.saliency import TOLERANCE
from utils.report.figures.common import LETTERS, PAGE, PUBLISHED_COLOUR, below, heat_on_image, plain
from utils.report.records import Evidence
from utils.report.tables.common import tested
from utils.report.tables.localisation import by_pointing, network

TRUTH, OUTLINE = "#F0E442", "#56B4E9"  # of Okabe and Ito's palette: yellow on dark tissue, blue beside it


def pointing(evidence: Evidence) -> Figure:
    """How often the maximum of Grad-CAM lies in or near the tumour, a row a committed classifier with its 95 % CI; a
    bar marks what a point at random reaches, a cross the brightest point."""
    every = by_pointing(evidence)
    figure, axis = plt.subplots(figsize=(PAGE, 1.2 + 0.36 * len(every)))
    for y, found in enumerate(reversed(every)):
        near = found["groups"]["all"]["near"]
        spread = [[100 * (near["value"] - near["low"])], [100 * (near["high"] - near["value"])]]
        axis.errorbar(100 * near["value"], y, xerr=spread, fmt="o", color="C0", capsize=3)
        for name, shape in (("near_area", "|"), ("bright_near", "x")):
            axis.plot(100 * found["groups"]["all"][name]["value"], y, shape, color=PUBLISHED_COLOUR, markersize=10)
    names = [f"{network(found['run'])}\n{found['run']['dataset']}, {tested(found)}" for found in reversed(every)]
    axis.set_yticks(range(len(every)), names)
    axis.set(xlabel=f"maximum inside the tumour or within {TOLERANCE} pixels, percent of images", xlim=(0, 100))
    for shape, label in (("o", "Grad-CAM"), ("|", "a point at random"), ("x", "the brightest point")):
        colour = "C0" if shape == "o" else PUBLISHED_COLOUR
        axis.plot([], [], shape, color=colour, label=label)
    axis.margins(y=0.05)
    below(figure, axis)
    return figure


def outlines(
    images: np.ndarray,
    masks: np.ndarray,
    maps: dict[str, np.ndarray],
    titles: Sequence[str],
    found: np.ndarray | None = None,
) -> Figure:
    """A row of grey images N×H×W with the true outline, and below it a row for each of `maps`.

    Args:
        masks: N×H×W of 0 and 1; maps: row title → N×H×W in [0, 1], drawn as heat; titles: above each image.
        found: N×H×W of 0 and 1, what the network outlined, drawn on the images as a second line.
    """
    rows = {"image": np.zeros_like(images, dtype=float)} | maps
    side = (PAGE - 0.2) / len(images)
    figure, axes = plt.subplots(len(rows), len(images), figsize=(PAGE, 0.6 + side * len(rows)), squeeze=False)
    for row, (name, shown) in enumerate(rows.items()):
        for i, axis in enumerate(axes[row]):
            axis.imshow(heat_on_image(images[i], shown[i]))
            axis.contour(masks[i], [0.5], colors=TRUTH, linewidths=1)
            if row == 0 and found is not None and found[i].any():
                axis.contour(found[i], [0.5], colors=OUTLINE, linewidths=1)
            axis.set(xticks=[], yticks=[])
            axis.set_title(plain(titles[i]) if row == 0 else "", fontsize=LETTERS, pad=3)
        axes[row, 0].set_ylabel(name, fontsize=LETTERS)
    lines = {"true outline": TRUTH} | ({"outline of the network": OUTLINE} if found is not None else {})
    handles = [plt.Line2D([], [], color=colour) for colour in lines.values()]
    style = {"ncol": 2, "loc": "lower center", "frameon": True, "facecolor": "0.3", "labelcolor": "w"}
    figure.legend(handles, list(lines), **style)
    figure.tight_layout(rect=(0, 0.36 / figure.get_figheight(), 1, 1), pad=0.3)
    return figure
