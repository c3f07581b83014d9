"""Figures of trainings and results: curves over the epochs, and values with their 95 % intervals, a row each."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from models import LOCALISERS
from utils.evaluation.compare import BETTER, NO_DIFFERENCE, WORSE, Difference
from utils.evaluation.saliency import TOLERANCE
from utils.report.figures.common import LETTERS, PAGE, PALETTE, PUBLISHED_COLOUR, SETS, below, panels, plain, spread
from utils.report.records import split_words
from utils.report.tables.common import format_ci

COLOURS = {BETTER: PALETTE[0], NO_DIFFERENCE: PUBLISHED_COLOUR, WORSE: PALETTE[1]}
MARKERS, START = "osD^", {True: ", pretrained", False: ", from scratch", None: ""}
TITLES = {"tumour": "tumour or none", "subtype": "tumour type", "auc": "AUC", "dice": "Dice"}


def _lines(axis: plt.Axes, history: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Columns of a history over its epochs, a line each: label → column."""
    for (label, column), marker in zip(columns.items(), MARKERS, strict=False):
        axis.plot(history.epoch, history[column], marker=marker, markersize=3, label=plain(label))
    axis.xaxis.get_major_locator().set_params(integer=True, nbins=5)


def _panel_each(history: pd.DataFrame, names: Sequence[str], height: float) -> tuple[Figure, np.ndarray]:
    """Metrics of training and of validation images over the epochs, a panel each."""
    figure, (axes,) = panels(1, len(names), height)
    for axis, name in zip(axes, names, strict=True):
        columns = {SETS[part]: f"{part}_{name}" for part in ("train", "val")}
        _lines(axis, history, {label: column for label, column in columns.items() if column in history})
        axis.set(title=TITLES.get(name, name), xlabel="epoch")
    return figure, axes


def curves(history: pd.DataFrame, kept: int, metric: str = "accuracy") -> Figure:
    """Loss and `metric` over the epochs, training against validation; the epoch whose weights were kept is marked."""
    figure, axes = _panel_each(history, ("loss", metric), 2.5)
    for axis in axes:
        axis.axvline(kept, color=PUBLISHED_COLOUR, linestyle=":", label="weights kept")
    return below(figure, axes[0])


def losses(history: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Every raw loss over the epochs, training against validation, a panel each; `names` without train_ and val_."""
    figure, axes = _panel_each(history, names, 2.6)
    plt.setp(axes, ylim=(0, None))
    return below(figure, axes[0])


def convergence(histories: Mapping[str, pd.DataFrame], metric: str = "accuracy") -> Figure:
    """`metric` on training and validation images over the epochs, a colour a run."""
    figure, (axes,) = panels(1, 2, 2.8, sharey=True)
    for axis, part in zip(axes, ("train", "val"), strict=True):
        for name, history in histories.items():
            _lines(axis, history, {name: f"{part}_{metric}"})
        axis.set(xlabel="epoch", title=SETS[part])
    axes[0].set_ylabel(TITLES.get(metric, metric))
    return below(figure, axes[0])


def gradients(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Norm of each loss's gradient at the shared encoder over the epochs (`callbacks.GradientWatch`), unweighted above
    and weighted below; a column a run."""
    width = min(PAGE, max(3.6, 0.7 + 1.4 * len(histories)))
    figure, axes = panels(2, len(histories), 4, width, sharex="col", sharey="row")
    for (above, under), (name, history) in zip(axes.T, histories.items(), strict=True):
        for loss in ("reconstruction", "classification"):
            norm = history[f"gradient_{loss}"]
            above.plot(history.epoch, norm, label=loss)
            under.plot(history.epoch, norm * history[f"weight_{loss}"])
        above.set_title(plain(name))
        under.set_xlabel("epoch")
        under.xaxis.get_major_locator().set_params(integer=True, nbins=5)
    for axis, kind in zip(axes[:, 0], ("unweighted", "weighted"), strict=True):
        axis.set(ylabel=f"gradient, {kind}", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))  # fewer might leave a panel with one number
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    return below(figure, axes[0, 0])


def _rows(names: Iterable[str], inches: float, extra: float, widths: Sequence[int] = (1,)) -> tuple[Figure, np.ndarray]:
    """Panels of some relative widths with a row of some inches for each name, the first on top."""
    names = list(names)
    figure, (axes,) = panels(1, len(widths), extra + inches * len(names), sharey=True, width_ratios=widths)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, axes


def forest(entries: Mapping[str, Difference | dict], label: str, line: float | None = 0.0) -> Figure:
    """One row a name: its value and 95 % CI in percent or points, the interval's text on the right. The colour of a
    `Difference` is its verdict, and `line` is where there is none; without a line entries are {value, low, high}, as
    shares, of which a limit may be None."""
    names = [fill(plain(name), 44) for name in entries]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    figure, (axis,) = _rows(names, 0.1 + 0.13 * lines, 0.9)
    for y, entry in enumerate(entries.values()):
        found, colour = (entry, "C0") if line is None else (entry.interval, COLOURS[entry.verdict])
        spread(axis, found, y, color=colour)
        axis.text(1.01, y, format_ci(entry), transform=axis.get_yaxis_transform(), va="center", fontsize=LETTERS)
    if line is not None:
        axis.axvline(line, color="black", linewidth=1)
    axis.set(xlabel=label)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _pairs(axis: plt.Axes, ends: Iterable[Sequence[float]], labels: Mapping[str, str]) -> None:
    """Two values in percent a row, joined by a line; `labels`: their names and colours."""
    for y, two in enumerate(ends):
        axis.plot(two, [y, y], color=PUBLISHED_COLOUR, linewidth=1, zorder=0)
        for end, (label, colour) in zip(two, labels.items(), strict=True):
            axis.plot(end, y, "o", color=colour, label=label)
    axis.spines[["top", "right"]].set_visible(False)


def leakage(rows: pd.DataFrame) -> Figure:
    """Accuracy of each method (`tables.classification.leakage`, one data set) on the same test images: trained on the
    published split, and by patient. On the right the difference with its 95 % CI; diamond: as reported."""
    rows = rows.assign(after=[one.after for one in rows.fall]).sort_values("after", ascending=False)
    figure, (axis,) = _rows([plain(title) for title in rows.title], 0.3, 1.4)
    ends = [(100 * one.before, 100 * one.after) for one in rows.fall]
    _pairs(axis, ends, {"published split": "C0", "by patient": "C1"})
    for y, row in enumerate(rows.itertuples()):
        if pd.notna(row.reported):
            axis.plot(100 * row.reported, y, "D", color=PUBLISHED_COLOUR, label="as reported")
        axis.text(1.01, y, format_ci(row.fall), transform=axis.get_yaxis_transform(), va="center", fontsize=LETTERS)
    axis.set_xlabel(f"accuracy on the same {rows.images.iloc[0]:,} test images of {plain(rows.dataset.iloc[0])}, %")
    return below(figure, axis)


def promises(audits: Mapping[str, Mapping]) -> Figure:
    """Of each audited model (`Evidence.audits`) the mean of sensitivity and specificity, tumour or none, on the
    published test set and in new images; models without both rates in new images are left out."""
    means = {}
    for name, record in audits.items():
        new = record["new"].get("together") or next(iter(record["new"].values()), {})
        rates = [(of.get("sensitivity"), of.get("specificity")) for of in (record["home"]["screened"], new)]
        if all(one for both in rates for one in both):
            means[name] = [50 * sum(one["value"] for one in both) for both in rates]
    means = dict(sorted(means.items(), key=lambda entry: -entry[1][1]))
    figure, (axis,) = _rows(map(plain, means), 0.3, 1.2)
    _pairs(axis, means.values(), {"published test set": "C0", "new images": "C1"})
    axis.set_xlabel("mean of sensitivity and specificity, %")
    return below(figure, axis)


def dose_response(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy with its 95 % CI by how many images of a test patient were trained on (`evaluation.dose.response`), a
    panel a data set and a line a method, which has one colour in all panels."""
    figure, (axes,) = panels(1, len(found), 3, sharey=True)
    methods = [*dict.fromkeys(method for table in found.values() for method in table.method)]
    for axis, (name, table) in zip(axes, found.items(), strict=True):
        for method, rows in table.groupby("method", sort=False):
            k = methods.index(method)
            for x, entry in enumerate(rows.accuracy):
                spread(axis, entry, x, True, fmt=MARKERS[k], color=PALETTE[k], label=plain(method))
            axis.plot([100 * entry["value"] for entry in rows.accuracy], color=PALETTE[k], linewidth=1)
            axis.set_xticks(range(len(rows)), rows.dose)
        axis.set(title=plain(name), xlabel="images of a test patient\nthat were trained on")
    axes[0].set_ylabel("accuracy, %")
    return below(figure, max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1])))


def pointing(measured: Sequence[dict]) -> Figure:
    """How often the maximum of Grad-CAM lies in or near the tumour, a row a committed classifier with its 95 % CI; a
    bar marks what a point at random reaches, a cross the brightest point."""
    every = sorted(measured, key=lambda found: (found["run"]["dataset"], -found["groups"]["all"]["near"]["value"]))
    others = {"near_area": ("|", "a point at random"), "bright_near": ("x", "the brightest point")}
    names = []
    for run in (found["run"] for found in every):
        recipe = f" {run['recipe']}" if run["model"] in LOCALISERS else ""
        names.append(f"{run['model']}{recipe}{START[run['pretrained']]}\n{plain(run['dataset'])}, {split_words(run)}")
    figure, (axis,) = _rows(names, 0.36, 1.2)
    for y, found in enumerate(every):
        of_all = found["groups"]["all"]
        spread(axis, of_all["near"], y, color="C0", label="Grad-CAM")
        for name, (shape, label) in others.items():
            style = {"color": PUBLISHED_COLOUR, "markersize": 10, "label": label}
            axis.plot(100 * of_all[name]["value"], y, shape, **style)
    axis.set(xlabel=f"maximum in the tumour or within {TOLERANCE} pixels, % of images", xlim=(0, 100))
    return below(figure, axis)


def finding_bars(classes: Mapping[str, Mapping], images: int) -> Figure:
    """AUC and average precision of each finding, from `per_class` of a record, with 95 % intervals; a diamond is what a
    random order of the `images` reaches."""
    order = sorted(classes, key=lambda name: -(classes[name]["auc"]["value"] or 0))
    figure, (auc, precision) = _rows([f"{plain(n)} ({classes[n]['images']})" for n in order], 0.26, 1.1, (1, 1))
    for y, found in enumerate(classes[name] for name in order):
        for axis, metric, by_chance in ((auc, "auc", 0.5), (precision, "average_precision", found["images"] / images)):
            if found[metric]["value"] is None:
                axis.annotate("cannot be computed", (2, y), va="center", fontsize=LETTERS)
                continue
            spread(axis, found[metric], y, color="C0", capsize=0)
            axis.plot(100 * by_chance, y, "D", color=PUBLISHED_COLOUR)
    auc.set(title="area under the ROC curve, %", xlim=(0, 100))
    precision.set(title="average precision, %", xlim=(0, 100))
    figure.supxlabel("test set, 95 % interval over patients; diamond: a random order", fontsize=9)
    return figure
