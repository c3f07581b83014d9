"""Figures of the multi-task network."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import RocCurveDisplay

from utils.evaluation.ablation import REFERENCE
from utils.report.figures.common import LETTERS, PAGE, PUBLISHED_COLOUR, SETS, below, plain

LOSSES = {"tumour": "tumour or none", "subtype": "tumour type"}  # titles of the heads' losses


def losses(history: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Every raw loss over the epochs, training against validation, a panel each; `names` without train_ and val_."""
    figure, axes = plt.subplots(1, len(names), figsize=(PAGE, 2.6), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for part in ("train", "val"):
            axis.plot(history.epoch, history[f"{part}_{name}"], marker=".", label=SETS[part])
        axis.set(xlabel="epoch", title=LOSSES.get(name, name), ylim=(0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
    below(figure, axes[0, 0])
    return figure


def gradients(histories: dict[str, pd.DataFrame]) -> Figure:
    """Norm of each loss's gradient at the shared encoder over the epochs, unweighted and weighted; a column a run.

    `histories` by name, with the columns of `callbacks.GradientWatch`.
    """
    width = min(PAGE, max(3.6, 0.7 + 1.4 * len(histories)))
    figure, axes = plt.subplots(2, len(histories), figsize=(width, 4), squeeze=False, sharex="col", sharey="row")
    for column, (name, history) in enumerate(histories.items()):
        for loss, shape in (("reconstruction", "o"), ("classification", "s")):
            norm, weight = history[f"gradient_{loss}"], history[f"weight_{loss}"]
            style = {"marker": shape, "markersize": 3, "label": loss}
            axes[0, column].plot(history.epoch, norm, **style)
            axes[1, column].plot(history.epoch, norm * weight, **style)
        axes[0, column].set(title=plain(name), yscale="log")
        axes[1, column].set(xlabel="epoch", yscale="log")
        axes[1, column].xaxis.get_major_locator().set_params(integer=True)
    for axis, side in zip(axes[:, 0], ("gradient, unweighted", "gradient, weighted"), strict=True):
        axis.set_ylabel(side)
    for axis in axes.flat:  # powers of ten alone: names of the ticks between them would lie on each other
        axis.yaxis.set_minor_formatter("")
    below(figure, axes[0, 0])
    return figure


def show_reconstructions(images: np.ndarray, drawn: np.ndarray, titles: Sequence[str]) -> Figure:
    """Three rows: images N×H×W in [0, 1], their reconstructions, and the absolute differences on one scale, which a bar
    beside them gives."""
    side = (PAGE - 0.8) / len(images)
    size = PAGE, 0.3 + 3 * side
    figure, axes = plt.subplots(3, len(images), figsize=size, squeeze=False, layout="constrained")
    away = np.abs(images - drawn)
    for row, (shown, name, top) in enumerate(
        ((images, "image", 1), (drawn, "reconstructed", 1), (away, "difference", np.quantile(away, 0.995)))
    ):
        for axis, image, text in zip(axes[row], shown, titles, strict=True):
            last = axis.imshow(image, cmap="inferno" if row == 2 else "gray", vmin=0, vmax=top)
            axis.set(xticks=[], yticks=[])
            axis.set_title(plain(text) if row == 0 else "", fontsize=LETTERS, pad=3)
        axes[row, 0].set_ylabel(name, fontsize=LETTERS)
    figure.colorbar(last, ax=axes[2, :], aspect=8)
    return figure


def errors_by_class(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Reconstruction error of the test images of each class, from the column `error`."""
    figure, axis = plt.subplots(figsize=(6, 3))
    named = predictions.assign(label=predictions.label.map(plain))
    order = [plain(c) for c in classes]
    sns.violinplot(named, x="label", y="error", order=order, log_scale=True, inner="quart", cut=0, ax=axis)
    axis.set(xlabel="", ylabel="mean squared error", title="Reconstruction error of each class")
    figure.tight_layout()
    return figure


def screening(predictions: pd.DataFrame, healthy: str, threshold: float) -> Figure:
    """ROC curve of tumour against none, with two thresholds: .5, as in S0, and that from validation."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    sick, score = predictions.label != healthy, 1 - predictions[f"p_{healthy}"]
    RocCurveDisplay.from_predictions(sick, score, name="tumour", ax=axis)
    for value, mark, name in (
        (0.5, "o", "threshold .5 (S0)"),
        (threshold, "s", f"threshold {threshold:.2f} (validation)"),
    ):
        called = score >= value
        style = {"markersize": 11, "markerfacecolor": "none"} if mark == "o" else {}  # a ring: they may coincide
        axis.plot(called[~sick].mean(), called[sick].mean(), mark, label=name, **style)
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="Tumour against none")
    axis.legend(loc="lower right")
    figure.tight_layout()
    return figure


def gains(compared: dict[str, dict], reference: str = REFERENCE) -> Figure:
    """Difference in accuracy of each recipe to `reference`, from `ablation.compare`, in points with 95 % CIs."""
    others = {name: entry["difference"] for name, entry in compared.items() if name != reference}
    figure, axis = plt.subplots(figsize=(PAGE, 0.9 + 0.3 * len(others)))
    for y, entry in enumerate(others.values()):
        spread = [[100 * (entry["value"] - entry["low"])], [100 * (entry["high"] - entry["value"])]]
        axis.errorbar(100 * entry["value"], y, xerr=spread, fmt="o", capsize=3, color="C0")
    axis.axvline(0, color=PUBLISHED_COLOUR, linestyle=":")
    axis.set_yticks(range(len(others)), others)
    axis.set(xlabel=f"test accuracy minus that of {reference}, points (95 % CI)", ylim=(-0.6, len(others) - 0.4))
    figure.tight_layout()
    return figure
