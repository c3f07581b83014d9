"""Figures of the shift between validation and test."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from utils.reporting.figures.common import SETS, plain


def shift_map(
    places: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: Sequence[str], title: str = ""
) -> Figure:
    """A 2-D map of validation (dots) and test (crosses), coloured by class; `places` and `labels` by set."""
    figure, axis = plt.subplots(figsize=(6, 4.5))
    for part, marker in (("val", "o"), ("test", "x")):
        for k, c in enumerate(classes):
            x, y = places[part][labels[part] == c].T
            axis.scatter(x, y, s=14, marker=marker, color=f"C{k}", alpha=0.7, label=f"{plain(c)}, {SETS[part]}")
    axis.set(xticks=[], yticks=[], title=plain(title))
    axis.legend(fontsize=7, ncol=2)
    figure.tight_layout()
    return figure
