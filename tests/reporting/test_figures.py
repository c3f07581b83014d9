"""Every figure draws the tables that it is given."""

import io

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models import CustomCNN
from utils.reporting import figures

CLASSES = ("a", "b", "c")
VALUES = ("spread", "saturated")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 60)
    columns = {f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)}
    return pd.DataFrame({"label": rng.choice(CLASSES, 60), "predicted": np.array(CLASSES)[p.argmax(1)], **columns})


def test_confusion_shows_counts_and_colours_shares(predictions):
    axis = figures.confusion(predictions, CLASSES).axes[0]
    counts = pd.crosstab(predictions.label, predictions.predicted)
    assert [int(t.get_text()) for t in axis.texts] == counts.to_numpy().ravel().tolist()
    assert np.allclose(axis.images[0].get_array().sum(1), 1)


def test_every_other_figure_draws(predictions):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1, 0.5], "val_loss": [1, 0.6]})
    history = history.assign(train_accuracy=[0.5, 0.6], val_accuracy=[0.4, 0.5])
    assert len(figures.curves(history, 2).axes[0].lines) == 3
    assert len(figures.roc(predictions, CLASSES).axes[0].lines) == 4
    assert figures.reliability(predictions, CLASSES).axes[0].get_xlabel() == "confidence"
    manifest = pd.DataFrame({"label": ["a", "b", "a", "c"]})
    bars = (
        figures.class_counts({"train": manifest.label[:3], "test": manifest.label[3:]}, CLASSES).axes[0].containers[0]
    )
    assert [b.get_height() for b in bars] == [2, 1]
    assert len(figures.first_filters(CustomCNN(image_size=64)).axes) == 64
    image = figures.heat_on_image(np.full((4, 4), 255, np.uint8), np.zeros((4, 4)))
    assert np.allclose(image, 1), "without heat the image stays as it is"


def test_published_numbers_stand_beside_ours():
    entry = {"value": 0.9, "low": 0.88, "high": 0.92}
    record = {
        "run": {"model": "m", "split": "published"},
        "metrics": {"accuracy": entry},
        "published": {"accuracy": 0.99},
    }
    axis = figures.compared([record, record | {"published": None}]).axes[0]
    assert [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"] == [0.99]


def test_masks_lie_in_their_colour_on_the_image():
    image, masks = np.linspace(0, 200, 16).reshape(4, 4), np.zeros((2, 4, 4), np.uint8)
    masks[0, 0, 0] = masks[1, 3, 3] = 1
    rgb = figures.overlay(image, masks)
    assert rgb[0, 0].argmax() == 0 and rgb[3, 3].argmax() == 1, "red, green"
    assert np.ptp(rgb[1, 1]) == 0 and rgb.min() >= 0 and rgb.max() <= 1, "grey elsewhere"


def test_a_walk_has_a_frame_a_slice():
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 255, (7, 16, 16), dtype=np.uint8), np.zeros((7, 3, 16, 16), np.uint8)
    with Image.open(io.BytesIO(figures.walk(images, masks, scale=3))) as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 7, (96, 48))


def test_figures_of_segmentation_draw_what_they_are_given():
    images, masks = np.zeros((2, 8, 8)), np.ones((2, 1, 8, 8), np.uint8)
    shown = figures.show_predictions(images, {"truth": masks, "prediction": 1 - masks}, ["p", "q"], ["tumour"])
    colours = [np.ptp(a.images[0].get_array(), axis=2).max() > 0 for a in shown.axes]
    assert colours == [False, False, True, True, False, False], "images are grey, masks are coloured, no mask is not"
    assert [a.get_ylabel() for a in shown.axes[::2]] == ["image", "truth", "prediction"]
    epochs = [{f"gate{g}": np.full((1, 4, 4), 0.5) for g in (1, 2)} for _ in range(9)]
    shown = figures.gate_maps(images[0], epochs, most=4)
    assert [a.get_title() for a in shown.axes if a.get_title()] == ["epoch 1", "epoch 3", "epoch 6", "epoch 9"]
    history = pd.DataFrame({"epoch": [1, 2]} | {f"gate{g}_{v}": [0.1, 0.2] for g in range(1, 5) for v in VALUES})
    assert len(figures.gate_spread({"s2": history, "ours": history}).axes) == 4
    lines = figures.parameters_by_width({"a": {8: 100, 16: 400}}).axes[0].lines
    assert lines[0].get_ydata()[-1] == pytest.approx(4e-4)
    patients = pd.DataFrame({"a.pixels": [0, 10, 100], "a.dice": [1.0, 0.2, 0.8]})
    (points,) = figures.by_size(patients, ["a"]).axes[0].collections
    assert len(points.get_offsets()) == 2, "who has no such mask has no size"


def test_confusions_stand_side_by_side_with_their_counts():
    ours, reported = np.array([[8, 2, 0], [0, 5, 0], [1, 1, 1]]), np.eye(3, dtype=int)
    figure = figures.confusions({"here": ours, "reported": reported}, CLASSES)
    counts = [[int(t.get_text()) for t in axis.texts] for axis in figure.axes]
    assert counts == [ours.ravel().tolist(), reported.ravel().tolist()]
    assert figure.axes[0].collections[0].get_array().ravel()[0] == pytest.approx(0.8), (
        "colour is the share of the class"
    )


def test_gradients_are_shown_as_they_are_and_weighted():
    values = {"gradient_reconstruction": [2, 4], "weight_reconstruction": [10, 5]}
    values |= {"gradient_classification": [1, 1], "weight_classification": [1, 2]}
    figure = figures.gradients({"ema": pd.DataFrame({"epoch": [1, 2]} | values)})
    drawn = [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes]
    assert drawn == [[[2, 4], [1, 1]], [[20, 20], [1, 2]]]


def test_figures_of_the_multi_task_network_draw_what_they_are_given(predictions):
    history = pd.DataFrame({"epoch": [1, 2]} | {f"{p}_{n}": [1.0, 0.5] for p in ("train", "val") for n in ("x", "y")})
    assert [axis.get_title() for axis in figures.losses(history, ["x", "y"]).axes] == ["x", "y"]
    images, drawn = np.zeros((2, 4, 4)), np.full((2, 4, 4), 0.25)
    assert [a.images[0].get_array().max() for a in figures.show_reconstructions(images, drawn, "ab").axes] == [
        0
    ] * 2 + [0.25] * 4
    table = predictions.assign(error=np.linspace(0.1, 1, len(predictions)))
    assert figures.errors_by_class(table, CLASSES).axes[0].get_yscale() == "log"
    axis = figures.screening(predictions, "a", threshold=0.8).axes[0]
    sick, called = predictions.label != "a", 1 - predictions.p_a >= 0.8
    mark = next(line for line in axis.lines if line.get_marker() == "s")
    assert mark.get_xydata()[0] == pytest.approx([called[~sick].mean(), called[sick].mean()])
    gain = {"value": 0.01, "low": -0.01, "high": 0.03}
    axis = figures.gains({"s0": {"difference": gain}, "s0-flat": {"difference": gain}}).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["s0-flat"]


@pytest.mark.parametrize("old", [False, True])
def test_a_result_on_old_folds_is_marked_in_the_figure_too(old):
    entry = {"value": 0.9, "low": 0.88, "high": 0.92}
    run = {"dataset": "brain-tumor-mri", "model": "CustomCNN", "view": "stored", "image_size": 128}
    record = {"metrics": {"accuracy": entry}, "recipe": {}, "published": None}
    published = record | {"run": run | {"split": "published", "fold": 0}, "old_folds": False}
    patient = record | {"run": run | {"split": "patient", "fold": None}, "old_folds": old}
    axis = figures.against_patients([published, patient]).axes[0]
    assert [text.get_text().endswith("†") for text in axis.texts] == [False, old]
    assert ("†" in axis.get_xlabel()) is old
