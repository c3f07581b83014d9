"""Metrics and figures of many classes, and of patients."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils.evaluation.classification import evaluate
from utils.report import figures


def test_top_k_of_many_classes_by_hand():
    classes = [f"c{i}" for i in range(6)]
    ranked = np.array([[0.4, 0.3, 0.2, 0.06, 0.03, 0.01]] * 3)
    table = pd.DataFrame({"label": ["c0", "c2", "c5"], "predicted": ["c0"] * 3, "group": [0, 1, 2]})
    table = table.assign(**{f"p_{c}": ranked[:, i] for i, c in enumerate(classes)})
    found = evaluate(table, classes, resamples=10)["metrics"]
    values = [found[n]["value"] for n in ("accuracy", "top3_accuracy", "top5_accuracy")]
    assert values == pytest.approx([1 / 3, 2 / 3, 2 / 3], abs=1e-6)
    assert "top3_accuracy" not in evaluate(table[:1], classes[:4], resamples=2)["metrics"]


@pytest.mark.parametrize("number", [4, 44])
def test_figures_of_few_and_of_many_classes(number):
    classes = [f"class {i}" for i in range(number)]
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, number - 1, 300), rng.dirichlet(np.ones(number), 300)  # the last never occurs
    table = pd.DataFrame({"label": np.array(classes)[truth], "predicted": np.array(classes)[scores.argmax(1)]})
    table = table.assign(**{f"p_{c}": scores[:, i] for i, c in enumerate(classes)})
    assert len(figures.confusion(table, classes).axes[0].texts) == (16 if number == 4 else 0)
    curves = figures.roc(table, classes).axes[0]
    assert len(curves.lines) == number - 1 + 1, "a curve a class that occurs, and the diagonal"
    assert bool(curves.get_legend()) == (number == 4)
    figures.class_counts({"train": table.label, "test": table.label}, classes)
    plt.close("all")
