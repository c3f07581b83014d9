"""Text that comes from data, such as a patient or a class with `$` in its name, is written in a figure as it is, and
no letter is too small on a page."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from letters import letters

from utils.report import figures

CLASSES = [r"a$\frac{$", "b $5$ and $", "c"]
ODD = r"p$\frac{1$"
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"label": RNG.choice(CLASSES, 60), "predicted": RNG.choice(CLASSES, 60), "error": RNG.random(60)})
TABLE[[f"p_{c}" for c in CLASSES]] = RNG.dirichlet(np.ones(3), 60)
IMAGES = RNG.random((2, 16, 16))
VALUES = [f"{part}_{metric}" for part in ("train", "val") for metric in ("loss", "accuracy")]
HISTORY = pd.DataFrame({"epoch": [1, 2]} | {name: [0.5, 0.4] for name in VALUES})
FACTS = {"images": 10, "removed by S0's rule": 1, "images in a label conflict": 0, "linked images": 5}
KINDS = {kind: {"pairs": 3} for kind in ("bytes", "pixels", "near")}
AUC = {"value": 0.5, "low": 0.4, "high": 0.6}
METRICS = {"metrics": dict.fromkeys(("dice", "iou", "precision", "recall", "fnr", "fpr", "accuracy"), AUC)}
RUN = {"run": {"dataset": ODD, "split": "patient", "fold": 0, "image_size": 64}, "training": {"epochs": 2}}
GATES = {f"gate{g}": np.full((1, 4, 4), 0.5) for g in range(1, 5)}
OF_GATES = pd.DataFrame({"epoch": [1, 2]} | {f"{g}_{v}": [0.1, 0.2] for g in GATES for v in ("spread", "saturated")})
LOSSES = ("reconstruction", "classification")
GRADIENTS = pd.DataFrame({"epoch": [1, 2]} | {f"{v}_{n}": [1.0, 9.0] for v in ("gradient", "weight") for n in LOSSES})
BY_CLASS = {"per_class": {c: {"recall": AUC, "f2": AUC} for c in CLASSES}}

DRAWN = {
    "class_counts": lambda: figures.class_counts({"train": TABLE.label, "val": TABLE.label}, CLASSES),
    "image_grid": lambda: figures.image_grid(IMAGES, [ODD, ODD]),
    "counts": lambda: figures.counts(pd.crosstab(TABLE.label, TABLE.predicted)),
    "confusion": lambda: figures.confusion(TABLE, CLASSES),
    "roc": lambda: figures.roc(TABLE, CLASSES),
    "rocs": lambda: figures.rocs({ODD: TABLE}, CLASSES),
    "reliability": lambda: figures.reliability({ODD: TABLE}, CLASSES),
    "confidences": lambda: figures.confidences({ODD: TABLE, "b": TABLE}, CLASSES, {ODD: 0.9}),
    "per_class": lambda: figures.per_class({ODD: BY_CLASS, "b": BY_CLASS}, CLASSES),
    "duplicate_pairs": lambda: figures.duplicate_pairs(
        pd.DataFrame({"i": [0], "j": [1], "kind": "near", "transform": "upright"}),
        IMAGES,
        pd.DataFrame({"label": [ODD, ODD], "published_split": ""}),
    ),
    "curated": lambda: figures.curated([{"dataset": ODD, "facts": FACTS, "duplicates": KINDS}]),
    "learning_curves": lambda: figures.learning_curves({ODD: HISTORY, "b": HISTORY}),
    "convergence": lambda: figures.convergence({ODD: HISTORY, "b": HISTORY}),
    "forest": lambda: figures.forest({ODD: AUC}, "points"),
    "confusions": lambda: figures.confusions({ODD: np.eye(3, dtype=int)}, CLASSES),
    "show_predictions": lambda: figures.show_predictions(IMAGES, {"truth": IMAGES[:, None] > 0.5}, [ODD, ODD], [ODD]),
    "gate_maps": lambda: figures.gate_maps(IMAGES[0], IMAGES[0] > 0.5, [GATES] * 6),
    "gate_spread": lambda: figures.gate_spread({f"{ODD}{k}": OF_GATES for k in range(5)}),
    "by_size": lambda: figures.by_size(
        pd.DataFrame({f"{c}.{v}": [0.1, 0.9] for c in CLASSES * 2 for v in ("pixels", "dice")}), CLASSES * 2
    ),
    "unet_metrics": lambda: figures.unet_metrics({}, {ODD: METRICS | RUN, "b": METRICS | RUN}),
    "gradients": lambda: figures.gradients({f"{ODD}{k}": GRADIENTS for k in range(4)}),
    "screening": lambda: figures.screening(TABLE, CLASSES[0], 0.5),
    "outlines": lambda: figures.outlines(IMAGES, IMAGES > 0.5, {"map": IMAGES}, [ODD, ODD], IMAGES > 0.7),
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
def test_text_from_data_is_no_formula_and_is_large_enough(name):
    figure = DRAWN[name]()
    try:
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        assert not {text: size for text, size in letters(figure).items() if size < figures.LETTERS - 0.01}
    finally:
        plt.close(figure)
