"""Forest plots: many values with their intervals, one below the other, beside a line that they are held against."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from utils.report.claims.common import direction
from utils.report.figures.common import LETTERS, PAGE, PALETTE, PUBLISHED_COLOUR, below, plain
from utils.report.tables.common import format_ci

COLOURS = {1: PALETTE[0], 0: PUBLISHED_COLOUR, -1: PALETTE[1]}  # shown above the line, no difference shown, below
WRAPPED = 44  # characters a line of a name beside the axis


def forest(entries: Mapping[str, dict], label: str, line: float | None = 0.0) -> Figure:
    """One row a name: its value and 95 % CI in percent or points, the interval's text on the right. The colour of a
    difference is what a sentence says of it, by `claims.common.direction`: grey where none is shown, be it by the
    interval, the corrected test or its seeds.

    Args:
        entries: name → {value, low, high} as shares; a limit may be None.
        label: of the axis. line: where a difference is none; None for values that are no differences.
    """
    names = [fill(plain(name), WRAPPED) for name in entries]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    figure, axis = plt.subplots(figsize=(PAGE, 0.9 + (0.1 + 0.13 * lines) * len(entries)))
    for y, entry in enumerate(reversed(entries.values())):
        value, low, high = (None if entry[k] is None else 100 * entry[k] for k in ("value", "low", "high"))
        colour = "C0" if line is None else COLOURS[direction(entry)]
        spread = None if low is None else [[value - low], [high - value]]
        axis.errorbar(value, y, xerr=spread, fmt="o", capsize=3, color=colour)
        text = format_ci(entry, sign=line is not None)
        axis.text(1.01, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=LETTERS)
    if line is not None:
        axis.axvline(line, color="black", linewidth=1)
    axis.set_yticks(range(len(entries)), list(reversed(names)))
    axis.set(xlabel=label, ylim=(-0.6, len(entries) - 0.4))
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def leaks(findings: Sequence[dict]) -> Figure:
    """Test images of the published splits, by data set: all whose patient is known, those whose patient is also in
    training, and those with a twin there, identical in every pixel."""
    shown = {f["dataset"]: f["facts"] for f in findings if f["facts"].get("linked test images")}
    figure, axis = plt.subplots(figsize=(PAGE, 0.9 + 0.9 * len(shown)))
    bars = {
        "patient known": "linked test images",
        "patient also in training": "linked test images with their patient in training",
        "identical image in training": "test images with a pixel-identical training twin",
    }
    for i, (name, key) in enumerate(bars.items()):
        heights = [facts[key] for facts in shown.values()]
        drawn = axis.barh([y - 0.27 * i for y in range(len(shown))], heights, 0.25, label=name, color=f"C{i}")
        axis.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=LETTERS)
    axis.set_yticks([y - 0.27 for y in range(len(shown))], list(shown))
    axis.set_xlabel("test images of the published split")
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)
    below(figure, axis)
    return figure
