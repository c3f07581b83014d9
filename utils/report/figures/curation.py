"""Figures of curation: pairs of duplicates, what was found in real sets, the shift between validation and test."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.report.figures.common import LETTERS, PAGE, PALETTE, SETS, below, colours_of, image_grid, plain


def duplicate_pairs(pairs: pd.DataFrame, thumbnails: np.ndarray, table: pd.DataFrame, columns: int = 6) -> Figure:
    """Pairs side by side, `columns` images a line. Above the first of a pair stands how they agree, above the second
    the transform, below that the label and the published set of each.

    Args:
        pairs: a row a pair, `i`, `j` (rows of `table`), `kind` and `transform`.
        thumbnails: N×H×W; table: N rows with `label` and `published_split`.
    """
    rows, titles = [], []
    for pair in pairs.itertuples():
        for row, said in ((pair.i, pair.kind), (pair.j, pair.transform)):
            label, part = table.label.iloc[row], table.published_split.iloc[row]
            rows.append(row)
            titles.append(f"{said}\n{label}" + (f", {part}" if part else ""))
    return image_grid(thumbnails[rows], titles, columns)


def beside(first: np.ndarray, second: np.ndarray, titles: tuple[str, str], columns: int = 8) -> Figure:
    """Images N×H×W, each followed by what was made of it."""
    both = np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
    return image_grid(both, list(titles) * len(first), columns)


def curated(findings: Sequence[dict]) -> Figure:
    """What was found in each real set, in images or pairs on a logarithmic axis: pairs of duplicates by kind, what S0's
    rule removes, label conflicts, and links to the patients of Cheng's collection. Of what was not found there is no
    bar but a 0."""
    counts = {
        "identical files, pairs": lambda f: f["duplicates"]["bytes"]["pairs"],
        "identical pixels, pairs": lambda f: f["duplicates"]["pixels"]["pairs"],
        "near-duplicates, pairs": lambda f: f["duplicates"]["near"]["pairs"],
        "removed by S0's rule, images": lambda f: f["facts"]["removed by S0's rule"],
        "in a label conflict, images": lambda f: f["facts"]["images in a label conflict"],
        "linked to a patient, images": lambda f: f["facts"]["linked images"],
    }
    figure, axis = plt.subplots(figsize=(PAGE, 0.8 + 0.5 * len(counts)))
    step = 0.8 / max(len(findings), 1)
    for k, found in enumerate(findings):
        values = [count(found) for count in counts.values()]
        places = [y + 0.4 - (k + 0.5) * step for y in range(len(counts) - 1, -1, -1)]
        name = f"{plain(found['dataset'])} ({found['facts']['images']:,} images)"
        axis.barh(places, values, step * 0.9, color=PALETTE[k % len(PALETTE)], label=name)
        for value, y in zip(values, places, strict=True):
            axis.text(1.1 * max(value, 0.8), y, f"{value:,}", va="center", fontsize=LETTERS)
    axis.set_yticks(range(len(counts)), list(reversed(counts)))
    axis.set(xscale="log", xlim=(0.8, 1e5), xlabel="number")
    axis.spines[["top", "right"]].set_visible(False)
    below(figure, axis, rows=-(-len(findings) // 2))
    return figure


def shift_map(
    places: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: Sequence[str], title: str = ""
) -> Figure:
    """A 2-D map of validation (dots) and test (crosses), coloured by class; `places` and `labels` by set."""
    figure, axis = plt.subplots(figsize=(PAGE, 4.5))
    for part, marker in (("val", "o"), ("test", "x")):
        for c, colour in colours_of(classes).items():
            x, y = places[part][labels[part] == c].T
            axis.scatter(x, y, s=14, marker=marker, color=colour, alpha=0.8, label=f"{plain(c)}, {SETS[part]}")
    axis.set(xticks=[], yticks=[], title=plain(title))
    below(figure, axis, rows=2)
    return figure


def committed_map(table: pd.DataFrame, splits: dict[str, str], classes: Sequence[str], title: str) -> Figure:
    """The map of a real set before and after, a panel a split, from its coordinates (`utils/report/maps.py`).

    Validation images are dots, test images crosses; numbers stand beside the test images that lie farthest from the
    training images of their class. Panels share no axes: each has a map of its own, without what lies farthest out.
    """
    figure, axes = plt.subplots(1, len(splits), figsize=(PAGE, 0.55 * PAGE))
    for axis, (split, name) in zip(np.atleast_1d(axes), splits.items(), strict=True):
        of_split = table[table.split == split]
        for part, marker in (("val", "o"), ("test", "x")):
            for c, colour in colours_of(classes).items():
                shown = of_split[(of_split["set"] == part) & (of_split.label == c)]
                label = f"{plain(c)}, {SETS[part]}"
                axis.scatter(shown.x, shown.y, s=8, marker=marker, color=colour, alpha=0.6, linewidths=0.8, label=label)
        for far in of_split[of_split.outlier > 0].itertuples():
            axis.annotate(str(far.outlier), (far.x, far.y), fontsize=LETTERS, fontweight="bold", annotation_clip=True)
        limits = {f"{a}lim": of_split[a].quantile([0.02, 0.98]) + np.array([-1, 1]) for a in "xy"}
        axis.set(xticks=[], yticks=[], title=plain(f"{title}, {name}"), **limits)
    below(figure, np.atleast_1d(axes)[0], rows=2)
    return figure
