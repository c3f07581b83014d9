"""Figures of transfer learning."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.reporting.figures.common import PUBLISHED_COLOUR, SETS


def convergence(histories: dict[str, pd.DataFrame], metric: str = "accuracy") -> Figure:
    """`metric` on training and validation images over the epochs, a colour a run."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, part in zip(axes, ("train", "val"), strict=True):
        for name, history in histories.items():
            axis.plot(history.epoch, history[f"{part}_{metric}"], marker=".", label=name)
        axis.set(xlabel="epoch", title=SETS[part])
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel(metric)
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    return figure


def against_time(records: Sequence[dict]) -> Figure:
    """Accuracy with its interval against training time, a point a run; size of the circle: parameters."""
    figure, axis = plt.subplots(figsize=(7.5, 4))
    for record in records:
        accuracy, minutes = record["metrics"]["accuracy"], record["training"]["seconds"] / 60
        spread = [[accuracy["value"] - accuracy["low"]], [accuracy["high"] - accuracy["value"]]]
        axis.errorbar(minutes, accuracy["value"], yerr=spread, color=PUBLISHED_COLOUR, linewidth=1, zorder=1)
        area = 12 * np.sqrt(record["parameters"] / 1e5)
        axis.scatter(minutes, accuracy["value"], area, color="C1" if record["run"]["pretrained"] else "C0")
        weights = "pretrained" if record["run"]["pretrained"] else "from scratch"
        name = f"{record['run']['model']}, {weights}, {record['run']['image_size']} px"
        axis.annotate(name, (minutes, accuracy["value"]), xytext=(6, 4), textcoords="offset points", fontsize=7)
    axis.set(
        xscale="log", xlabel="training time, minutes (on the machine of the run)", ylabel="test accuracy (95 % CI)"
    )
    axis.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axis.minorticks_off()
    minutes = [record["training"]["seconds"] / 60 for record in records]
    axis.set_xlim(0.8 * min(minutes), 2 * max(minutes))  # room for the names
    figure.tight_layout()
    return figure


def rates(history: pd.DataFrame) -> Figure:
    """The learning rate of the head over the epochs; in training by stages it starts again with each stage."""
    figure, axis = plt.subplots(figsize=(6, 2.4))
    for name, rows in history.groupby(history.get("stage", pd.Series("", history.index)), sort=False):
        axis.plot(rows.epoch, rows.lr, marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if "stage" in history:
        axis.legend(fontsize=7)
    figure.tight_layout()
    return figure
