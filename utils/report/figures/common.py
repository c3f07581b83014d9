"""What all figures share: their colours, their width, their letters, and legends that cover nothing."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colours for all kinds of colour vision, those first that stand out from white as a thin line. The last
# two are too pale for lines and letters on white. tests/report/test_figures.py simulates colour-blind readers.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PUBLISHED_COLOUR = "0.45"
PAGE = 6.3  # inches, the width of a page between its margins: no figure is wider, so that its letters keep their size
LETTERS = 8  # points, the smallest
MANY = 12  # classes from which on a figure does not write each number
SETS = {"train": "training", "val": "validation", "test": "test"}  # their names in a figure

plt.rcParams["axes.prop_cycle"] = plt.cycler(color=PALETTE)  # "C0", "C1" … of every figure
plt.rcParams.update({"font.size": 9, "axes.titlesize": 9, "legend.fontsize": LETTERS, "figure.dpi": 120})
plt.rcParams.update({f"{axis}tick.labelsize": LETTERS for axis in "xy"})


def plain(text: object) -> str:
    """Text that comes from data (a patient, a class, a run), so that matplotlib takes no `$` in it for a formula."""
    return str(text).replace("$", r"\$")


def panels(lines: int, columns: int, height: float, width: float = PAGE, **shape) -> tuple[Figure, np.ndarray]:
    """A figure of some inches and its axes, lines × columns, laid out so that nothing is cut off."""
    return plt.subplots(lines, columns, figsize=(width, height), squeeze=False, layout="constrained", **shape)


def below(figure: Figure, axis: plt.Axes) -> Figure:
    """The figure with the legend of one axis below all of it, where it covers nothing; a name once."""
    named = {name: handle for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=len(named), frameon=False)
    return figure


def spread(axis: plt.Axes, entry: Mapping[str, float | None], place: float, upright: bool = False, **style) -> None:
    """A point with its 95 % interval {value, low, high} in percent, in a row or a column; a None is not drawn."""
    value, low, high = (np.nan if entry[name] is None else 100 * entry[name] for name in ("value", "low", "high"))
    point, ends = ((place, value), "yerr") if upright else ((value, place), "xerr")
    axis.errorbar(*point, **{"fmt": "o", "capsize": 3, ends: [[value - low], [high - value]]} | style)


def heat_on_image(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Grey image H×W uint8 under a heat map H×W in [0, 1] → RGB H×W×3 in [0, 1]."""
    strength = 0.45 * heat[..., None]
    return (1 - strength) * image[..., None] / 255 + strength * plt.cm.inferno(heat)[..., :3]
