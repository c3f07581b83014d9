"""Figures of a classifier's results."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay

from utils.reporting.figures.common import MANY, PUBLISHED_COLOUR, plain
from utils.reporting.tables.common import OLD_FOLDS, find_run, format_ci, mark


def confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Confusion matrix in images; colour shows the share of the true class. Of many classes no numbers are written."""
    many = len(classes) > MANY
    figure, axis = plt.subplots(figsize=(9, 8.4) if many else (4.6, 4))
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
        axis.tick_params(labelsize=6)
        return figure
    for row, texts in enumerate(axis.texts[i : i + len(classes)] for i in range(0, len(axis.texts), len(classes))):
        for column, text in enumerate(texts):
            share = shares.get(classes[column], pd.Series(dtype=float)).get(classes[row], 0)
            text.set_color("white" if share > 0.5 else "black")
    axis.tick_params(axis="x", rotation=30)
    return figure


def roc(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """One ROC curve a class, that class against the rest; many are not named, one without images has none."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    for c in (c for c in classes if 0 < predictions.label.eq(c).sum() < len(predictions)):
        faint = {"curve_kwargs": {"color": "C0", "alpha": 0.3}} if len(classes) > MANY else {"name": plain(c)}
        RocCurveDisplay.from_predictions(predictions.label == c, predictions[f"p_{c}"], ax=axis, **faint)
    if len(classes) > MANY and axis.get_legend():
        axis.get_legend().remove()
    axis.plot([0, 1], [0, 1], color=PUBLISHED_COLOUR, linestyle=":")
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="Each class against the rest")
    return figure


def reliability(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Share of correct predictions against mean confidence, in ten bins of confidence."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    confidence = predictions[[f"p_{c}" for c in classes]].max(axis=1).clip(0, 1)
    CalibrationDisplay.from_predictions(
        predictions.label == predictions.predicted, confidence, n_bins=10, name="model", ax=axis
    )
    axis.set(xlabel="confidence", ylabel="share of correct predictions", title="Reliability")
    return figure


def compared(records: Sequence[dict], metric: str = "accuracy") -> Figure:
    """`metric` of several runs with 95 % CIs; a grey diamond is the reported number."""
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.45 * len(records)))
    for y, record in enumerate(reversed(records)):
        entry = record["metrics"][metric]
        spread = [[entry["value"] - entry["low"]], [entry["high"] - entry["value"]]]
        axis.errorbar(entry["value"], y, xerr=spread, fmt="o", capsize=3, color="C0")
        axis.annotate(
            format_ci(entry), (entry["value"], y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
        )
        if record["published"] and metric in record["published"]:
            axis.plot(record["published"][metric], y, "D", color=PUBLISHED_COLOUR)
    names = [f"{r['run']['model']} · {r['run']['split']}" for r in reversed(records)]
    axis.set_yticks(range(len(records)), names)
    axis.set(xlabel=f"{metric} on the test set (95 % CI; diamond: as reported)", ylim=(-0.6, len(records) - 0.3))
    axis.margins(x=0.12)  # room for the numbers
    figure.tight_layout()
    return figure


def against_patients(records: Sequence[dict], dataset: str = "brain-tumor-mri") -> Figure:
    """Accuracy of each model on the published split and on patient folds, with intervals; diamond: as reported."""
    pairs = {}
    for model in sorted({r["run"]["model"] for r in records if r["run"]["dataset"] == dataset}):
        published = find_run(records, dataset=dataset, model=model, split="published")
        patient = find_run(records, dataset=dataset, model=model, split="patient", fold=None)
        if published and patient:
            pairs[model] = published, patient
    order = sorted(pairs, key=lambda model: pairs[model][1]["metrics"]["accuracy"]["value"])
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.6 * len(order)))
    for y, model in enumerate(order):
        values = [record["metrics"]["accuracy"] for record in pairs[model]]
        marks = [mark(record) for record in pairs[model]]
        axis.plot([v["value"] for v in values], [y, y], color=PUBLISHED_COLOUR, linewidth=1)
        for value, old, colour, label, side in zip(
            values, marks, ("C0", "C3"), ("published split", "patient folds"), (8, -14), strict=True
        ):
            spread = [[value["value"] - value["low"]], [value["high"] - value["value"]]]
            axis.errorbar(
                value["value"], y, xerr=spread, fmt="o", capsize=3, color=colour, label=label if not y else None
            )
            where = {"xytext": (0, side), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axis.annotate(format_ci(value) + old, (value["value"], y), color=colour, **where)
        if pairs[model][0]["published"]:
            axis.plot(pairs[model][0]["published"]["accuracy"], y, "D", color=PUBLISHED_COLOUR)
    axis.set_yticks(range(len(order)), order)
    axis.margins(x=0.12)  # room for the numbers
    note = f"; {OLD_FOLDS}: on earlier folds" if any(mark(record) for pair in pairs.values() for record in pair) else ""
    axis.set(xlabel=f"accuracy on {dataset} (95 % CI; diamond: as reported by S2{note})", ylim=(-0.7, len(order) - 0.3))
    axis.legend(loc="lower right") if order else None
    figure.tight_layout()
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Confusion matrices K×K of counts side by side, rows truth; colour shows the share of the true class."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(3.6 * len(matrices), 3.4), squeeze=False, sharey=True)
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
