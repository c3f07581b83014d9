"""Every figure draws what it is given, in colours that all readers tell apart and letters of 8 points on a page."""

import io
from itertools import combinations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from utils.evaluation.compare import Difference
from utils.report import figures
from utils.report.figures import common, images, predictions, results
from utils.report.tables.segmentation import MASK_METRICS

CLASSES, ODD = [r"a$\frac{$", "b $5$ and $", "c"], r"p$\frac{1$"  # no formula: text from data is written as it is
RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(3), 60)
TABLE = pd.DataFrame({"label": RNG.choice(CLASSES, 60), "predicted": np.array(CLASSES)[P.argmax(1)]})
TABLE = TABLE.assign(error=RNG.random(60), **{f"p_{c}": P[:, k] for k, c in enumerate(CLASSES)})
SCREENED = TABLE.replace({"label": {CLASSES[0]: "notumor"}}).rename(columns={f"p_{CLASSES[0]}": "p_notumor"})
SCREENED["group"] = range(60)
IMAGES = RNG.random((2, 16, 16))
MASKS = IMAGES > 0.5
HISTORY = pd.DataFrame({"epoch": [1, 2], "lr": [1e-3, 1e-4], "stage": ["head", "all"]})
HISTORY[[f"{p}_{m}" for p in ("train", "val") for m in ("loss", "accuracy")]] = [[0.5, 0.4, 0.6, 0.5], [0.4] * 4]
HISTORY[[f"{v}_{n}" for v in ("gradient", "weight") for n in ("reconstruction", "classification")]] = [[1, 2, 3, 4]] * 2
CI = {"value": 0.5, "low": 0.4, "high": 0.6}
NONE = dict.fromkeys(CI)
RATES = {"sensitivity": CI, "specificity": CI}
FACTS = {"images": 1000, "removed by S0's rule": 1, "images in a label conflict": 0, "linked images": 5}
FACTS |= {"linked test images": 28, "linked test images with their patient in training": 27}
FACTS |= {"test images with a pixel-identical training twin": 251}
FOUND = {"dataset": ODD, "facts": FACTS, "duplicates": {k: {"pairs": 3} for k in ("bytes", "pixels", "near")}}
RECORD = {"per_class": {c: {"recall": CI, "f2": CI, "auc": CI, "average_precision": CI, "images": 3} for c in CLASSES}}
RECORD |= {"metrics": dict.fromkeys(MASK_METRICS, CI), "training": {"epochs": 2}}
RECORD |= {"run": {"dataset": ODD, "split": "patient", "fold": 0, "image_size": 64, "model": "m", "pretrained": None}}
POINTED = RECORD | {"groups": {"all": {name: CI for name in ("near", "near_area", "bright_near")}}}
FALLS = pd.DataFrame({"dataset": ODD, "title": [ODD, "1-NN"], "images": 1311, "reported": [0.99, None]})
FALLS["fall"] = [Difference(-0.1, -0.12, -0.08, before=0.9 + k, after=0.8 + k) for k in (0, 0.05)]
DOSES = pd.DataFrame({"method": [ODD] * 2 + ["1-NN"] * 2, "dose": ["0", "all"] * 2, "accuracy": [CI] * 4})
PAIR = pd.DataFrame({"i": [0], "j": [1], "kind": "near", "transform": "flipped-lr"})

DRAWN = {
    "class_counts": lambda f: f({"train": TABLE.label, "test": TABLE.label}, CLASSES),
    "image_grid": lambda f: f(IMAGES, [ODD, ODD]),
    "beside": lambda f: f(IMAGES, IMAGES / 2, ("before", "after")),
    "duplicate_pairs": lambda f: f(PAIR, IMAGES, pd.DataFrame({"label": [ODD, "c"], "published_split": ["train", ""]})),
    "heat_grid": lambda f: f(IMAGES, IMAGES, MASKS, [ODD, "a\nb"], 2),
    "counts": lambda f: f(pd.crosstab(TABLE.label, TABLE.predicted), "fold"),
    "confusion": lambda f: f(TABLE, CLASSES),
    "confusions": lambda f: f({ODD: np.array([[8, 2, 0], [0, 5, 0], [1, 1, 1]]), "b": np.eye(3, dtype=int)}, CLASSES),
    "together": lambda f: f(MASKS[0][:, :3].astype(int), CLASSES),
    "screening": lambda f: f(SCREENED, 0.5),
    "reliability": lambda f: f({ODD: TABLE}, CLASSES),
    "leaks": lambda f: f([FOUND]),
    "outlines": lambda f: f(IMAGES, MASKS, {"map": IMAGES}, [ODD, ODD], IMAGES > 0.7),
    "show_predictions": lambda f: f(IMAGES, {"truth": MASKS[:, None], "none": ~MASKS[:, None]}, [ODD, ODD], [ODD]),
    "show_reconstructions": lambda f: f(IMAGES, IMAGES / 2, [ODD, ODD]),
    "curves": lambda f: f(HISTORY, 2),
    "losses": lambda f: f(HISTORY, ["loss", "accuracy"]),
    "convergence": lambda f: f({ODD: HISTORY, "b": HISTORY}),
    "gradients": lambda f: f({f"{ODD}{k}": HISTORY for k in range(4)}),
    "forest": lambda f: f({ODD: CI, "one group": NONE | {"value": 0.5}}, "Dice %", line=None),
    "leakage": lambda f: f(FALLS),
    "promises": lambda f: f({ODD: {"home": {"screened": RATES}, "new": {"navoneel": RATES}}}),
    "dose_response": lambda f: f({ODD: DOSES, "b": DOSES}),
    "pointing": lambda f: f([POINTED]),
    "finding_bars": lambda f: f(RECORD["per_class"], 60),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(name: str) -> Figure:
    return DRAWN[name](getattr(figures, name))


def test_every_figure_is_in_the_table():
    modules = (common, images, predictions, results)
    made = {name for m in modules for name, f in vars(m).items() if getattr(f, "__module__", "") == m.__name__}
    parts = {"plain", "panels", "below", "spread", "heat_on_image"}
    assert {name for name in made if not name.startswith("_")} == DRAWN.keys() | parts


def letters(figure: Figure) -> dict[str, float]:
    """The texts of a figure and their size in points, once it is made as narrow as the page."""
    figure.canvas.draw()
    width = figure.get_tightbbox(figure.canvas.get_renderer()).width
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return {text.get_text(): text.get_fontsize() * min(1, (figures.PAGE + 0.2) / width) for text in shown}


@pytest.mark.parametrize("name", DRAWN)
def test_letters_are_large_enough_and_a_legend_covers_nothing(name):
    figure = drawn(name)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert not {text: size for text, size in letters(figure).items() if size < figures.LETTERS - 0.01}
    for legend in figure.legends:
        assert not [axis for axis in figure.axes if axis.axison and legend.get_window_extent().overlaps(axis.bbox)]


# ---- what is drawn ------------------------------------------------------------------------------------------------
def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def xs(axis: plt.Axes, marker: str = "") -> list[float]:
    return [line.get_xdata()[0] for line in axis.lines if marker in ("", line.get_marker())]


def test_counts_are_written_and_their_colour_is_the_share_of_the_row():
    table = pd.crosstab(TABLE.label, TABLE.predicted)
    for name, axis in ((name, drawn(name).axes[0]) for name in ("confusion", "counts")):
        assert [int(t.get_text()) for t in axis.texts] == table.to_numpy().ravel().tolist(), name
        colours = axis.collections[0]
        assert np.allclose(colours.get_array().reshape(3, 3).sum(1), 1) and colours.get_clim() == (0, 1)
    assert drawn("confusions").axes[0].collections[0].get_array().ravel()[0] == pytest.approx(0.8)
    names = [f"class {i}" for i in range(30)]
    many = pd.DataFrame({"label": names, "predicted": names})
    assert not figures.confusion(many, names).axes[0].texts, "no numbers where there is no room"
    bars = drawn("class_counts").axes[0].containers[0]
    assert [bar.get_height() for bar in bars] == [(TABLE.label == c).sum() for c in CLASSES]
    shown = np.array([[1, 1, 0], [1, 0, 0]])
    assert [t.get_text() for t in figures.together(shown, "abc").axes[0].texts] == list("210110000")


def test_leaks_are_counted():
    assert [text.get_text() for text in drawn("leaks").axes[0].texts] == ["28", "27", "251"]


def test_reliability_counts_the_images_of_each_bin():
    sure, right = P.max(1), TABLE.label == TABLE.predicted
    axis, counts = drawn("reliability").axes
    heights = [bar.get_height() for bar in counts.patches]
    assert heights == np.histogram(sure, np.linspace(0, 1, 16))[0].tolist(), "the 15 bins of the calibration error"
    assert [text.get_text() for text in counts.texts] == [str(n) if n else "" for n in heights], "no number, no image"
    points = axis.lines[1].get_xydata()
    assert len(points) == np.count_nonzero(heights), "an empty bin has no point"
    assert points[-1] == pytest.approx([sure[sure > 13 / 15].mean(), right[sure > 13 / 15].mean()])


def test_values_stand_in_their_rows_with_the_reported_number():
    (axis,) = drawn("leakage").axes
    assert xs(axis, "D") == [99] and sorted(xs(axis, "o")) == pytest.approx([80, 85, 90, 95])
    assert [text.get_text() for text in axis.texts] == ["-10.0 (-12.0 to -8.0)"] * 2
    classes = {"a": RECORD["per_class"]["c"], "none": {"auc": NONE, "average_precision": NONE, "images": 0}}
    auc, _ = figures.finding_bars(classes, 60).axes
    assert [t.get_text() for t in auc.texts] == ["cannot be computed"] and xs(auc, "D") == [50]


def test_a_method_has_one_colour_in_all_panels():
    """A panel without some of the methods once gave their colours to others, under one legend for all."""
    one = DOSES[DOSES.method == "1-NN"]
    both, alone = figures.dose_response({"a": DOSES, "b": one}).axes
    assert alone.lines[-1].get_color() == both.lines[-1].get_color() != both.lines[0].get_color()


def test_a_difference_has_the_colour_of_its_verdict():
    found = {"better": Difference(0.1, 0.05, 0.2, p=0.01), "none": Difference(0.1, -0.1, 0.2)}
    found |= {"worse": Difference(-0.1, -0.2, -0.01), "corrected": Difference(0.1, 0.05, 0.2, p_corrected=0.2)}
    (axis,) = figures.forest(found, "points").axes
    blue, orange, *_ = figures.PALETTE
    grey = figures.PUBLISHED_COLOUR
    assert [bars.lines[0].get_color() for bars in axis.containers] == [blue, grey, orange, grey]
    assert axis.texts[0].get_text() == "+10.0 (+5.0 to +20.0)"
    (axis,) = drawn("forest").axes
    assert len(axis.lines) == 2 + 4 and [t.get_text() for t in axis.texts] == ["50.0 (40.0–60.0)", "50.0"], "no line"


def test_gradients_are_shown_raw_and_weighted():
    weighted = figures.gradients({"ema": HISTORY}).axes
    assert [[line.get_ydata()[0] for line in axis.lines] for axis in weighted] == [[1, 2], [3, 8]]


def test_images_stand_beside_what_was_made_of_them():
    assert titles(drawn("duplicate_pairs"))[:2] == [figures.plain(f"near\n{ODD}, train"), "flipped-lr\nc"]
    shown = [axis.images[0].get_array().max() for axis in drawn("beside").axes[:4]]
    assert shown[1] == shown[0] / 2 and shown[3] == shown[2] / 2
    assert np.allclose(figures.heat_on_image(np.full((4, 4), 255, np.uint8), np.zeros((4, 4))), 1), "without heat"


def test_masks_are_outlined_each_in_its_colour_and_named():
    around, inside = np.zeros((2, 1, 16, 16))
    around[0, 2:14, 2:14] = inside[0, 6:10, 6:10] = 1
    figure = figures.show_predictions(around, {"truth": np.stack([around, inside], 1)}, "p", [ODD, "b"])
    images_of, truth = figure.axes
    assert not images_of.collections and [t.get_text() for t in figure.legends[0].texts] == [figures.plain(ODD), "b"]
    widths = [np.ptp(lines.get_paths()[0].vertices[:, 0]) for lines in truth.collections]
    assert widths == [12, 4], "both outlines are seen, although one mask lies in the other"
    assert len({tuple(lines.get_edgecolor()[0]) for lines in truth.collections}) == 2
    tinted = figures.show_predictions(around, {"truth": np.stack([around, around, inside], 1)}, "p", "abc").axes[1]
    assert [len(one.get_facecolor()) for one in tinted.collections] == [0, 0, 1], "where two borders coincide"


# ---- colours ------------------------------------------------------------------------------------------------------
EYES = (None, "deuteranomaly", "protanomaly", "tritanomaly")


def nearest(colours: tuple, eyes: str | None) -> float:
    """The distance (CAM02-UCS) of the two colours that look most alike to a reader who lacks one kind of cone."""
    space = {"name": "sRGB1+CVD", "cvd_type": eyes or EYES[1], "severity": 100 if eyes else 0}
    looks = [np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1) for colour in colours]
    return min(deltaE(a, b, input_space="sRGB1") for a, b in combinations(looks, 2))


@pytest.mark.parametrize("eyes", EYES)
def test_every_reader_tells_the_colours_apart(eyes):
    """By 10; 1 is just noticeable side by side, and markers far from each other need more."""
    assert nearest(figures.PALETTE, eyes) >= 10
    assert nearest((*figures.PALETTE[:2], figures.PUBLISHED_COLOUR), eyes) >= 10, "ours beside the reported number"
    usual = matplotlib.color_sequences["tab10"][:4]
    assert eyes is None or min(nearest(usual, one) for one in EYES) < 5, "the measure refuses the usual colours"


def test_lines_stand_out_from_white_and_a_class_has_one_colour_in_every_figure():
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(figures.PALETTE)
    for colour in (*figures.PALETTE[:4], figures.PUBLISHED_COLOUR):  # WCAG 2.1, 1.4.11
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        assert 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05) >= 3
