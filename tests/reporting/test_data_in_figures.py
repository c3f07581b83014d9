"""Text that comes from data, such as a patient or a class with `$` in its name, is written in a figure as it is."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils.reporting import figures

CLASSES = [r"a$\frac{$", "b $5$ and $", "c"]
ODD = r"p$\frac{1$"
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"label": RNG.choice(CLASSES, 60), "predicted": RNG.choice(CLASSES, 60), "error": RNG.random(60)})
TABLE[[f"p_{c}" for c in CLASSES]] = RNG.dirichlet(np.ones(3), 60)
IMAGES = RNG.random((2, 16, 16))
AUC = {"value": 0.5, "low": 0.4, "high": 0.6}

DRAWN = {
    "class_counts": lambda: figures.class_counts({"train": TABLE.label, "val": TABLE.label}, CLASSES),
    "image_grid": lambda: figures.image_grid(IMAGES, [ODD, ODD]),
    "counts": lambda: figures.counts(pd.crosstab(TABLE.label, TABLE.predicted)),
    "confusion": lambda: figures.confusion(TABLE, CLASSES),
    "roc": lambda: figures.roc(TABLE, CLASSES),
    "confusions": lambda: figures.confusions({ODD: np.eye(3, dtype=int)}, CLASSES),
    "show_predictions": lambda: figures.show_predictions(IMAGES, {"truth": IMAGES[:, None] > 0.5}, [ODD, ODD], [ODD]),
    "show_reconstructions": lambda: figures.show_reconstructions(IMAGES, IMAGES / 2, [ODD, ODD]),
    "errors_by_class": lambda: figures.errors_by_class(TABLE, CLASSES),
    "shift_map": lambda: figures.shift_map(
        dict.fromkeys(("val", "test"), RNG.random((60, 2))), dict.fromkeys(("val", "test"), TABLE.label), CLASSES, ODD
    ),
    "finding_bars": lambda: figures.finding_bars(
        {c: {"auc": AUC, "average_precision": AUC, "images": 3} for c in CLASSES}, 60
    ),
    "together": lambda: figures.together((IMAGES[0][:, :3] > 0.5).astype(int), CLASSES),
}


@pytest.mark.parametrize("name", DRAWN)
def test_text_from_data_is_no_formula(name):
    figure = DRAWN[name]()
    try:
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    finally:
        plt.close(figure)
