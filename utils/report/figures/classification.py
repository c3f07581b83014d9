"""Figures of a classifier's results."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, roc_curve

from utils.evaluation.classification import area_under_roc
from utils.report.figures.common import (
    LETTERS,
    LINES,
    MANY,
    PAGE,
    PALETTE,
    PUBLISHED_COLOUR,
    below,
    colours_of,
    plain,
)
from utils.report.tables.common import OLD_FOLDS, find_run, format_ci, mark, shown_size


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Confusion matrix in images; colour shows the share of the true class. Of many classes no numbers are written."""
    many = len(classes) > MANY
    side = 1.5 + 0.125 * len(classes)  # inches: a line of 8 points for each of many classes
    figure, axis = plt.subplots(figsize=(side, side) if many else (4.6, 4))
    shares = pd.crosstab(predictions.label, predictions.predicted, normalize="index")
    ConfusionMatrixDisplay.from_predictions(
        predictions.label,
        predictions.predicted,
        labels=classes,
        display_labels=[plain(c) for c in classes],
        cmap="Blues",
        colorbar=False,
        ax=axis,
        include_values=not many,
    )
    axis.images[0].set_data(shares.reindex(index=classes, columns=classes, fill_value=0))
    axis.images[0].set_clim(0, 1)
    if many:
        axis.tick_params(axis="x", rotation=90)
        figure.tight_layout()
        return figure
    for row, texts in enumerate(axis.texts[i : i + len(classes)] for i in range(0, len(axis.texts), len(classes))):
        for column, text in enumerate(texts):
            share = shares.get(classes[column], pd.Series(dtype=float)).get(classes[row], 0)
            text.set_color("white" if share > 0.5 else "black")
    axis.tick_params(axis="x", rotation=30)
    figure.tight_layout()
    return figure


def roc(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """One ROC curve a class, that class against the rest; many are not named, one without images has none."""
    figure, axis = plt.subplots(figsize=(4.2, 4))
    _draw_roc(axis, predictions, classes)
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="Each class against the rest")
    if len(classes) <= MANY and axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower right")
    figure.tight_layout()
    return figure


def rocs(tables: Mapping[str, pd.DataFrame], classes: Sequence[str], columns: int = 4) -> Figure:
    """The ROC curves of several runs, a panel each; its title gives the mean of the areas below them."""
    lines = -(-len(tables) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(PAGE, 0.75 + (PAGE / columns + 0.25) * lines), squeeze=False, sharex=True, sharey=True
    )
    for axis in axes.flat[len(tables) :]:
        axis.axis("off")
    for axis, (name, table) in zip(axes.flat, tables.items(), strict=False):
        areas = _draw_roc(axis, table, classes)
        axis.set_title(f"{plain(name)}\nmean AUC {np.mean(areas):.3f}", fontsize=LETTERS)
        axis.set_aspect("equal")
    figure.supxlabel("1 − specificity", fontsize=9, y=0.32 / figure.get_figheight())
    figure.supylabel("sensitivity", fontsize=9)
    for c, colour in colours_of(classes).items():
        axes[0, 0].plot([], [], color=colour, label=plain(c))
    below(figure, axes[0, 0], room=0.25)
    return figure


def _draw_roc(axis: plt.Axes, table: pd.DataFrame, classes: Sequence[str]) -> list[float]:
    """The curves of one table, named in the legend of a single panel; returns the area below each. Of joined folds
    each is a curve of its own: their networks rank on scales of their own."""
    areas, single = [], axis.figure.axes == [axis]
    thin = {"linewidth": 0.6} if "fold" in table else {}
    for c, colour in colours_of(classes).items():
        truth = table.label == c
        if not 0 < truth.sum() < len(table):
            continue
        scores, fold = table[f"p_{c}"], table.get("fold", pd.Series(0, table.index))
        areas.append(area_under_roc(truth.to_numpy()[:, None], scores.to_numpy()[:, None], fold.to_numpy())[0])
        many = len(classes) > MANY
        style = {"color": "C0", "alpha": 0.3} if many else {"color": colour}
        label = f"{plain(c)} (AUC {areas[-1]:.3f})" if single and not many else None
        for one in fold.unique():
            mine = fold == one
            if 0 < truth[mine].sum() < mine.sum():
                axis.plot(*roc_curve(truth[mine], scores[mine])[:2], label=label, **style, **thin)
                label = None
    axis.plot([0, 1], [0, 1], color=PUBLISHED_COLOUR, linestyle=":")
    return areas


def reliability(tables: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> Figure:
    """Share of correct predictions against mean confidence in ten bins, a column a run; below, the number of images in
    each bin. A bin without images has no point."""
    shape = {"squeeze": False, "sharex": True, "sharey": "row", "height_ratios": (5, 2)}
    figure, axes = plt.subplots(2, len(tables), figsize=(min(PAGE, 1.2 + 2.9 * len(tables)), 4.2), **shape)
    for (name, table), (axis, counts) in zip(tables.items(), axes.T, strict=True):
        right, sure = table.label == table.predicted, confidence_of(table, classes)
        bins = pd.cut(sure, np.linspace(0, 1, 11), labels=False, include_lowest=True)
        found = pd.DataFrame({"sure": sure, "right": right}).groupby(bins).mean()
        sizes = bins.value_counts().reindex(range(10), fill_value=0)
        axis.plot([0, 1], [0, 1], color=PUBLISHED_COLOUR, linestyle=":", label="confidence = accuracy")
        axis.plot(found.sure, found.right, marker="s", label="images of a bin")
        axis.set(title=plain(name), ylim=(-0.05, 1.05))
        drawn = counts.bar(np.arange(10) / 10 + 0.05, sizes, 0.09)
        counts.bar_label(drawn, [f"{n:,}" if n else "" for n in sizes], fontsize=LETTERS, rotation=90, padding=2)
        counts.set(xlabel="confidence", yscale="log")
    axes[1, 0].set_ylim(0.5, 3000 * max(len(table) for table in tables.values()))  # room for the numbers
    axes[0, 0].set_ylabel("share of correct predictions")
    axes[1, 0].set_ylabel("images")
    below(figure, axes[0, 0])
    return figure


def confidence_of(table: pd.DataFrame, classes: Sequence[str]) -> pd.Series:
    """The probability of the predicted class, one an image."""
    return table[[f"p_{c}" for c in classes]].max(axis=1).clip(0, 1)


def confidences(
    tables: Mapping[str, pd.DataFrame], classes: Sequence[str], reported: Mapping[str, float] | None = None
) -> Figure:
    """How confidence is distributed among correct and among wrong predictions, each 100 %, a panel a table; a line
    marks the mean of all, a broken one the `reported` mean of the table of that name."""
    figure, axes = plt.subplots(1, len(tables), figsize=(PAGE, 2.9), squeeze=False, sharey=True)
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        right, sure = table.label == table.predicted, confidence_of(table, classes)
        parts = {"correct": sure[right], "wrong": sure[~right]}
        weights = [np.full(len(part), 100 / max(len(part), 1)) for part in parts.values()]
        axis.hist(
            list(parts.values()), bins=np.linspace(0, 1, 11), weights=weights, color=PALETTE[:2], label=list(parts)
        )
        axis.axvline(sure.mean(), color="black", label="mean")
        stated = (reported or {}).get(name)
        if stated:
            axis.axvline(stated, color=PUBLISHED_COLOUR, linestyle="--", label="mean as reported")
        axis.set_title(f"{plain(name)}\nmean {100 * sure.mean():.1f} %,\naccuracy {100 * right.mean():.1f} %")
        axis.set_xlabel("confidence")
    axes[0, 0].set_ylabel("percent of the correct\nand of the wrong")
    most = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    below(figure, most)
    return figure


def in_percent(entry: Mapping[str, float | None]) -> tuple[float, float, float]:
    """Value and limits of {value, low, high} in percent; NaN, which is not drawn, for None."""
    return tuple(np.nan if entry[name] is None else 100 * entry[name] for name in ("value", "low", "high"))


def per_class(records: Mapping[str, dict], classes: Sequence[str], metrics: Sequence[str] = ("recall", "f2")) -> Figure:
    """`metrics` of each class with 95 % CIs, a panel a metric and a colour a run (four at most)."""
    names = {"recall": "recall", "precision": "precision", "f1": "$F_1$", "f2": "$F_2$", "auc": "AUC"}
    shape = {"figsize": (PAGE, 1.1 + 0.17 * len(classes) * (len(records) + 1)), "squeeze": False, "sharey": True}
    figure, axes = plt.subplots(1, len(metrics), **shape)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for k, (name, record) in enumerate(records.items()):
            value, low, high = np.transpose([in_percent(record["per_class"][c][metric]) for c in classes])
            places = np.arange(len(classes))[::-1] + 0.3 - 0.6 * k / max(len(records) - 1, 1)
            style = {"fmt": "osD^"[k % 4], "capsize": 2, "markersize": 4, "color": PALETTE[k % LINES]}
            axis.errorbar(value, places, xerr=[value - low, high - value], label=plain(name), **style)
        axis.set(title=names.get(metric, metric), xlabel="percent (95 % CI)")
        axis.set_yticks(range(len(classes)), [plain(c) for c in reversed(classes)])
        for line in range(1, len(classes)):
            axis.axhline(line - 0.5, color="0.85", linewidth=0.8)
    below(figure, axes[0, 0], rows=-(-len(records) // 2))
    return figure


def compared(records: Sequence[dict], metric: str = "accuracy") -> Figure:
    """`metric` of several runs with 95 % CIs, their numbers on the right; a grey diamond is the reported number."""
    figure, axis = plt.subplots(figsize=(PAGE, 0.8 + 0.32 * len(records)))
    for y, record in enumerate(reversed(records)):
        entry = record["metrics"][metric]
        value, low, high = in_percent(entry)
        axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", capsize=3, color="C0")
        axis.text(1.02, y, format_ci(entry), transform=axis.get_yaxis_transform(), va="center")
        if record["published"] and metric in record["published"]:
            axis.plot(100 * record["published"][metric], y, "D", color=PUBLISHED_COLOUR)
    names = [f"{r['run']['model']} · {r['run']['split']}" for r in reversed(records)]
    axis.set_yticks(range(len(records)), names)
    axis.set(xlabel=f"{metric} on the test set, % (95 % CI; diamond: as reported)", ylim=(-0.6, len(records) - 0.4))
    figure.tight_layout()
    return figure


def against_patients(records: Sequence[dict], dataset: str = "brain-tumor-mri") -> Figure:
    """Accuracy of each model on the published split and on patient folds, with intervals; diamond: as reported."""
    pairs = {}
    for model in sorted({r["run"]["model"] for r in records if r["run"]["dataset"] == dataset}):
        of = {"dataset": dataset, "model": model, "image_size": shown_size(model, records)}
        published = find_run(records, split="published", **of)
        patient = find_run(records, split="patient", fold=None, **of)
        if published and patient:
            pairs[model] = published, patient
    order = sorted(pairs, key=lambda model: pairs[model][1]["metrics"]["accuracy"]["value"])
    figure, axis = plt.subplots(figsize=(PAGE, 1.4 + 0.5 * len(order)))
    for y, model in enumerate(order):
        values = [record["metrics"]["accuracy"] for record in pairs[model]]
        marks = [mark(record) for record in pairs[model]]
        axis.plot([100 * v["value"] for v in values], [y, y], color=PUBLISHED_COLOUR, linewidth=1)
        for value, old, colour, label, side in zip(
            values, marks, PALETTE[:2], ("published split", "patient folds"), (6, -13), strict=True
        ):
            middle, low, high = in_percent(value)
            spread, known = [[middle - low], [high - middle]], label if not y else None
            axis.errorbar(middle, y, xerr=spread, fmt="o", capsize=3, color=colour, label=known)
            where = {"xytext": (0, side), "textcoords": "offset points", "ha": "center", "fontsize": LETTERS}
            axis.annotate(format_ci(value) + old, (middle, y), color=colour, **where)
        if pairs[model][0]["published"]:
            axis.plot(100 * pairs[model][0]["published"]["accuracy"], y, "D", color=PUBLISHED_COLOUR)
    axis.set_yticks(range(len(order)), order)
    axis.margins(x=0.15)  # room for the numbers
    note = f"; {OLD_FOLDS}: on earlier folds" if any(mark(record) for pair in pairs.values() for record in pair) else ""
    axis.set(
        xlabel=f"accuracy on {dataset}, %\n(95 % CI; diamond: as reported by S2{note})", ylim=(-0.7, len(order) - 0.3)
    )
    below(figure, axis)
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Confusion matrices K×K of counts side by side, rows truth; colour shows the share of the true class."""
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(min(PAGE, 1 + 2.8 * len(matrices)), 3), squeeze=False, sharey=True
    )
    for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        names = [plain(c) for c in classes]
        table = pd.DataFrame(matrix, names, names)
        share = table.div(table.sum(axis=1).clip(lower=1), axis=0)
        sns.heatmap(share, annot=table, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axis)
        axis.set_title(plain(title), fontsize=9)
        axis.set_xlabel("predicted")
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    return figure
