"""Figures of data and predictions: counts of images, confusion matrices, ROC curves, confidence, maps."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.evaluation.classification import CALIBRATION_BINS
from utils.evaluation.thresholds import tumour_scores
from utils.report.figures.common import LETTERS, MANY, PAGE, PUBLISHED_COLOUR, SETS, below, panels, plain


def class_counts(labels: dict[str, pd.Series], classes: Sequence[str]) -> Figure:
    """Images of each class in each set. `labels` maps "train", "val" and "test" to the labels of their images."""
    numbers = {SETS[name]: values.value_counts() for name, values in labels.items()}
    table, many = pd.DataFrame(numbers).reindex(classes).fillna(0).rename(index=plain), len(classes) > MANY
    figure, ((axis,),) = panels(1, 1, 4 if many else 2.8, 0.17 * len(classes) + 3 if many else PAGE)
    table.plot.bar(ax=axis, width=0.8, rot=90 if many else 0, ylabel="images", title="Images of each class")
    for bars in () if many else axis.containers:
        axis.bar_label(bars, fmt="{:.0f}", fontsize=LETTERS)
    axis.set_xlabel("")
    axis.margins(y=0.1)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars, not on them
    return figure


def leaks(findings: Sequence[dict]) -> Figure:
    """Test images of the published splits, by data set: all whose patient is known, those whose patient is also in
    training, and those with a twin there, identical in every pixel."""
    names = {
        "linked test images": "patient known",
        "linked test images with their patient in training": "patient also in training",
        "test images with a pixel-identical training twin": "identical image in training",
    }
    numbers = {plain(f["dataset"]): f["facts"] for f in findings if f["facts"].get("linked test images")}
    table = pd.DataFrame(numbers).reindex(names).rename(index=names).T.astype(int)
    figure, ((axis,),) = panels(1, 1, 0.9 + (0.1 + 0.15 * table.shape[1]) * len(table))
    table.plot.barh(ax=axis, width=0.8, legend=False)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    for bar, value in ((bar, bar.get_width()) for bars in axis.containers for bar in bars):  # a 0, too, has its number
        place = max(value, axis.get_xlim()[0]), bar.get_y() + bar.get_height() / 2
        where = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": LETTERS}
        axis.annotate(f"{value:,}", place, **where)
    axis.set_xlabel("test images of the published split")
    axis.spines[["top", "right"]].set_visible(False)
    return below(figure, axis)


def _heat(axis: plt.Axes, table: pd.DataFrame, share: pd.DataFrame, **style) -> None:
    """Counts as numbers on their share of the row, white 0 and darkest 1, so that even rows look even."""
    import seaborn as sns  # here, as scikit-learn below: a figure of an answer need not wait for them

    style = {"fmt": "d", "cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False, "annot": table} | style
    sns.heatmap(share.rename(index=plain, columns=plain), ax=axis, **style)
    axis.set(xlabel="", ylabel="")
    axis.tick_params(axis="y", rotation=0)


def _share(table: pd.DataFrame) -> pd.DataFrame:
    return table.div(table.sum(axis=1).clip(lower=1), axis=0)


def counts(table: pd.DataFrame, xlabel: str) -> Figure:
    """A table of counts as a heat map with its numbers; colour shows the share of the row."""
    figure, ((axis,),) = panels(1, 1, 1 + 0.35 * table.shape[0], min(PAGE, 1.6 + 0.95 * table.shape[1]))
    _heat(axis, table, _share(table))
    axis.set_xlabel(xlabel)
    return figure


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Confusion matrix in images; colour shows the share of the true class. Of many classes no numbers are written."""
    table = pd.crosstab(predictions.label, predictions.predicted).reindex(index=classes, columns=classes, fill_value=0)
    side = 1.5 + 0.125 * len(classes) if len(classes) > MANY else 4  # inches: a line of 8 points for each of many
    figure, ((axis,),) = panels(1, 1, side, side)
    _matrix(axis, table.to_numpy(), classes)
    axis.set_ylabel("true")
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Confusion matrices K×K of counts side by side, rows truth; colour shows the share of the true class."""
    figure, (axes,) = panels(1, len(matrices), 3, min(PAGE, 1 + 2.8 * len(matrices)), sharey=True)
    for axis, (title, matrix) in zip(axes, matrices.items(), strict=True):
        _matrix(axis, matrix, classes)
        axis.set_title(plain(title))
    return figure


def _matrix(axis: plt.Axes, matrix: np.ndarray, classes: Sequence[str]) -> None:
    table, many = pd.DataFrame(matrix, classes, classes), len(classes) > MANY
    _heat(axis, table, _share(table), annot=False if many else table)
    axis.set_xlabel("predicted")
    axis.tick_params(axis="x", rotation=90 if many else 30)


def together(shown: np.ndarray, findings: Sequence[str]) -> Figure:
    """How many images show two findings at once, N×K of 0 and 1; on the diagonal those that show one."""
    table = pd.DataFrame(shown.T @ shown, list(findings), list(findings)).astype(int)
    side = min(PAGE, 2 + 0.45 * len(findings))
    figure, ((axis,),) = panels(1, 1, side, side)
    share = table.div(np.diag(table).clip(1), axis=0)
    _heat(axis, table, share, square=True, annot_kws={"fontsize": LETTERS})
    axis.tick_params(axis="x", rotation=90)
    axis.set_title("images that show both; colour: share of the row's")
    return figure


def screening(predictions: pd.DataFrame, threshold: float) -> Figure:
    """ROC curve of tumour against none, with .5, S0's threshold, and that from validation, unless it is NaN."""
    from sklearn.metrics import RocCurveDisplay

    figure, ((axis,),) = panels(1, 1, 4, 4.6)
    score, sick, _ = tumour_scores(predictions)
    RocCurveDisplay.from_predictions(sick, score, name="tumour", ax=axis)
    ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none"}  # the two may coincide
    shown = [(0.5, ".5 (S0)", ring), (threshold, f"{threshold:.2f} (validation)", {"marker": "s"})]
    for value, name, style in shown[: 1 if np.isnan(threshold) else 2]:
        called = score >= value
        axis.plot(called[~sick].mean(), called[sick].mean(), linestyle="", label=f"threshold {name}", **style)
    axis.set(title="Tumour against none", xlabel="1 − specificity", ylabel="sensitivity")
    axis.legend(loc="lower right")
    return figure


def reliability(tables: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> Figure:
    """Share of correct predictions against mean confidence in the bins of the calibration error, a column a run;
    below, the number of images in each bin. A bin without images has no point."""
    shape = {"sharex": True, "sharey": "row", "height_ratios": (5, 2)}
    figure, axes = panels(2, len(tables), 4.2, min(PAGE, 1.2 + 2.9 * len(tables)), **shape)
    for (name, table), (axis, numbers) in zip(tables.items(), axes.T, strict=True):
        right, sure = table.label == table.predicted, table[[f"p_{c}" for c in classes]].max(axis=1).clip(0, 1)
        bins = pd.cut(sure, np.linspace(0, 1, CALIBRATION_BINS + 1), labels=False, include_lowest=True)
        found = pd.DataFrame({"sure": sure, "right": right}).groupby(bins).mean()
        sizes = bins.value_counts().reindex(range(CALIBRATION_BINS), fill_value=0)
        axis.plot([0, 1], [0, 1], color=PUBLISHED_COLOUR, linestyle=":", label="confidence = accuracy")
        axis.plot(found.sure, found.right, marker="s", label="images of a bin")
        axis.set(title=plain(name), ylim=(-0.05, 1.05))
        drawn = numbers.bar((sizes.index + 0.5) / CALIBRATION_BINS, sizes, 0.9 / CALIBRATION_BINS)
        numbers.bar_label(drawn, [f"{n:,}" if n else "" for n in sizes], fontsize=LETTERS, rotation=90, padding=2)
        numbers.set_xlabel("confidence")
        numbers.margins(y=0.6)  # room for the numbers
    axes[1, 0].set_ylabel("images")
    axes[0, 0].set_ylabel("share of correct predictions")
    return below(figure, axes[0, 0])
