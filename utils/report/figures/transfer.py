"""Figures of transfer learning."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils.report.figures.common import PAGE, PALETTE, SETS, below, plain
from utils.report.tables.common import mark, seconds_of_one


def convergence(histories: Mapping[str, pd.DataFrame], metric: str = "accuracy") -> Figure:
    """`metric` on training and validation images over the epochs, a colour a run."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.8), sharey=True)
    for axis, part in zip(axes, ("train", "val"), strict=True):
        for name, history in histories.items():
            axis.plot(history.epoch, history[f"{part}_{metric}"], marker=".", label=plain(name))
        axis.set(xlabel="epoch", title=SETS[part])
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel(metric)
    below(figure, axes[0])
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame], columns: int = 3) -> Figure:
    """Loss (above) and accuracy (below) of each network over its epochs, training against validation."""
    groups = -(-len(histories) // columns)
    shape = {"figsize": (PAGE, 0.5 + 3.1 * groups), "squeeze": False, "sharey": False}
    figure, axes = plt.subplots(2 * groups, columns, **shape)
    for axis in axes.flat:
        axis.axis("off")
    for i, (name, history) in enumerate(histories.items()):
        for k, metric in enumerate(("loss", "accuracy")):
            axis = axes[2 * (i // columns) + k, i % columns]
            axis.axis("on")
            for part, marker in (("train", "o"), ("val", "s")):
                axis.plot(history.epoch, history[f"{part}_{metric}"], marker=marker, markersize=3, label=SETS[part])
            axis.xaxis.get_major_locator().set_params(integer=True, nbins=4)
            axis.set(title=plain(name) if not k else "", xlabel="epoch" if k else "")
            if not i % columns:
                axis.set_ylabel(metric)
            if k:
                axis.set_ylim(0, 1)
    below(figure, axes[0, 0])
    return figure


def cost(records: Sequence[dict]) -> Figure:
    """Accuracy with its 95 % CI, parameters, and seconds an epoch of each network, a row each, in one block for each
    number of epochs: only rows of one colour were trained equally long. Within a block the most accurate is on top."""
    blocks = sorted({r["training"]["epochs"] for r in records})
    rows = sorted(records, key=lambda r: (-r["training"]["epochs"], -r["metrics"]["accuracy"]["value"]))[::-1]
    figure, axes = plt.subplots(1, 3, figsize=(PAGE, 1.1 + 0.3 * len(rows)), sharey=True, width_ratios=(3, 2, 2))
    for y, record in enumerate(rows):
        accuracy, epochs = record["metrics"]["accuracy"], record["training"]["epochs"]
        colour = PALETTE[blocks.index(epochs) % len(PALETTE)]
        value, low, high = (100 * accuracy[key] for key in ("value", "low", "high"))
        axes[0].errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", capsize=2, color=colour)
        axes[1].plot(record["parameters"] / 1e6, y, "s", color=colour)
        axes[2].plot(_pace(record), y, "^", color=colour)
    names = [_network(record) for record in rows]
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_xlabel("test accuracy,\n% (95 % CI)")
    axes[1].set(xlabel="million\nparameters", xlim=(0, 1.1 * max(r["parameters"] for r in rows) / 1e6))
    axes[2].set(xlabel="seconds an epoch\n(machine of the run)", xlim=(0, 1.1 * max(map(_pace, rows))))
    for axis in axes:
        axis.grid(axis="y", color="0.9")
    for k, epochs in enumerate(blocks):
        axes[0].plot([], [], "o", color=PALETTE[k % len(PALETTE)], label=f"{epochs} epoch{'s' * (epochs > 1)}")
    below(figure, axes[0])
    return figure


def _pace(record: dict) -> float:
    return seconds_of_one(record) / record["training"]["epochs"]


def _network(record: dict) -> str:
    run = record["run"]
    start = ", pretrained" if run["pretrained"] else ""
    return f"{run['model']}{start}\n{run['image_size']} px{mark(record)}"


def rates(history: pd.DataFrame) -> Figure:
    """The learning rate of the head over the epochs; in training by stages it starts again with each stage."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.4))
    for name, rows in history.groupby(history.get("stage", pd.Series("", history.index)), sort=False):
        axis.plot(rows.epoch, rows.lr, marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if "stage" in history:
        axis.legend()
    figure.tight_layout()
    return figure
