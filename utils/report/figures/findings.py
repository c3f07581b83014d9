"""Figures of several findings an image."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from utils.report.figures.common import LETTERS, PAGE, PUBLISHED_COLOUR, plain

RANKED = {"auc": "area under the ROC curve", "average_precision": "average precision"}


def finding_bars(per_class: Mapping[str, Mapping], images: int) -> Figure:
    """AUC and average precision of each finding with 95 % intervals; a diamond is what a random order reaches.

    Args:
        per_class: of a record of `findings.evaluate_findings`; images: number of test images.
    """
    names = sorted(per_class, key=lambda name: per_class[name]["auc"]["value"] or 0)
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 1.1 + 0.26 * len(names)), sharey=True)
    for axis, (metric, title) in zip(axes, RANKED.items(), strict=True):
        for y, name in enumerate(names):
            entry = per_class[name][metric]
            if entry["value"] is None:
                axis.annotate("cannot be computed", (0.02, y), va="center", fontsize=LETTERS)
                continue
            if entry["low"] is not None:
                axis.plot([entry["low"], entry["high"]], [y, y], color="C0")
            axis.plot(entry["value"], y, "o", color="C0")
            axis.plot(0.5 if metric == "auc" else per_class[name]["images"] / images, y, "D", color=PUBLISHED_COLOUR)
        axis.set(title=title, xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))
    axes[0].set_yticks(range(len(names)), [f"{plain(name)} ({per_class[name]['images']})" for name in names])
    figure.supxlabel("test set, 95 % interval over patients; diamond: a random order", fontsize=9)
    figure.tight_layout()
    return figure


def together(shown: np.ndarray, findings: Sequence[str]) -> Figure:
    """How many images show two findings at once, N×K of 0 and 1; on the diagonal those that show one."""
    counts = (shown.T @ shown).astype(int)
    names = [plain(finding) for finding in findings]
    side = min(PAGE, 2 + 0.45 * len(findings))
    figure, axis = plt.subplots(figsize=(side, side))
    share = counts / np.maximum(np.diag(counts), 1)[:, None]
    sns.heatmap(
        share, annot=counts, fmt="d", cmap="Blues", cbar=False, square=True, ax=axis, annot_kws={"fontsize": LETTERS}
    )
    axis.set_xticklabels(names, rotation=90)
    axis.set_yticklabels(names, rotation=0)
    axis.set_title("images that show both; colour: share of the row's", fontsize=9)
    figure.tight_layout()
    return figure
