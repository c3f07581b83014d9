"""Forest plots: many values with their intervals, one below the other, beside a line that they are held against."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from utils.reporting.claims.common import direction
from utils.reporting.tables.common import format_ci

COLOURS = {1: "C0", 0: "grey", -1: "C3"}  # above the line, not distinguishable from it, below


def forest(entries: Mapping[str, dict], label: str, line: float | None = 0.0) -> Figure:
    """One row a name: its value and 95 % CI in percent or points, the interval's text on the right.

    Args:
        entries: name → {value, low, high} as shares; a limit may be None.
        label: of the axis. line: where a difference is none; None for values that are no differences.
    """
    width = 5 + 0.075 * max(map(len, entries), default=0)  # inches: the names stand beside the axis
    figure, axis = plt.subplots(figsize=(width, 0.9 + 0.34 * len(entries)))
    for y, entry in enumerate(reversed(entries.values())):
        value, low, high = (None if entry[k] is None else 100 * entry[k] for k in ("value", "low", "high"))
        colour = "C0" if line is None else COLOURS[direction(entry)]
        spread = None if low is None else [[value - low], [high - value]]
        axis.errorbar(value, y, xerr=spread, fmt="o", capsize=3, color=colour)
        text = format_ci(entry, sign=line is not None)
        axis.text(1.01, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    if line is not None:
        axis.axvline(line, color="black", linewidth=1)
    axis.set_yticks(range(len(entries)), list(reversed(entries)))
    axis.set(xlabel=label, ylim=(-0.6, len(entries) - 0.4))
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def leaks(findings: Sequence[dict]) -> Figure:
    """Test images of the published splits, by data set: all whose patient is known, those whose patient is also in
    training, and those with a twin there, identical in every pixel."""
    shown = {f["dataset"]: f["facts"] for f in findings if f["facts"].get("linked test images")}
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.9 * len(shown)))
    bars = {
        "patient known": "linked test images",
        "patient also in training": "linked test images with their patient in training",
        "identical image in training": "test images with a pixel-identical training twin",
    }
    for i, (name, key) in enumerate(bars.items()):
        heights = [facts[key] for facts in shown.values()]
        drawn = axis.barh([y - 0.27 * i for y in range(len(shown))], heights, 0.25, label=name, color=f"C{i}")
        axis.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=9)
    axis.set_yticks([y - 0.27 for y in range(len(shown))], list(shown))
    axis.set_xlabel("test images of the published split")
    axis.margins(x=0.1)
    axis.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
