"""Every figure draws the tables that it is given."""

import io

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from models import CustomCNN
from utils.report import figures

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
    assert len(figures.roc(predictions, CLASSES).axes) == 1
    manifest = pd.DataFrame({"label": ["a", "b", "a", "c"]})
    bars = (
        figures.class_counts({"train": manifest.label[:3], "test": manifest.label[3:]}, CLASSES).axes[0].containers[0]
    )
    assert [b.get_height() for b in bars] == [2, 1]
    net = CustomCNN(image_size=64)
    grey, coloured = (figures.first_filters(net, colour=colour).axes for colour in (False, True))
    assert len(grey) == 64 and coloured[0].images[0].get_array().shape == (9, 9, 3)
    assert all(np.ptp(axis.images[0].get_array()) == pytest.approx(1) for axis in grey), "each from 0 to 1"
    image = figures.heat_on_image(np.full((4, 4), 255, np.uint8), np.zeros((4, 4)))
    assert np.allclose(image, 1), "without heat the image stays as it is"


def test_reliability_counts_the_images_of_each_bin(predictions):
    sure = predictions[[f"p_{c}" for c in CLASSES]].max(axis=1)
    axis, counts = figures.reliability({"run": predictions}, CLASSES).axes
    heights = [bar.get_height() for bar in counts.patches]
    assert heights == np.histogram(sure, np.linspace(0, 1, 11))[0].tolist()
    assert [text.get_text() for text in counts.texts] == [str(n) if n else "" for n in heights], "no number, no image"
    points = axis.lines[1].get_xydata()
    assert len(points) == np.count_nonzero(heights), "an empty bin has no point"
    last = sure > 0.9
    right = (predictions.label == predictions.predicted)[last]
    assert points[-1] == pytest.approx([sure[last].mean(), right.mean()])


def test_roc_of_several_runs_gives_their_mean_area(predictions):
    perfect = predictions.assign(**{f"p_{c}": (predictions.label == c).astype(float) for c in CLASSES})
    axes = figures.rocs({"ours": predictions, "perfect": perfect}, CLASSES).axes
    assert axes[1].get_title().endswith("mean AUC 1.000") and not axes[0].get_title().endswith("1.000")
    assert len(axes[1].lines) == len(CLASSES) + 1 and not axes[2].axison, "chance; a place without a run is empty"


def test_roc_of_joined_folds_ranks_within_each(predictions):
    scaled = predictions.assign(**{f"p_{c}": predictions[f"p_{c}"] / 1000 for c in CLASSES})
    joined = pd.concat([predictions.assign(fold=0), scaled.assign(fold=1)], ignore_index=True)
    alone, both = (figures.rocs({"": table, "ours": table}, CLASSES).axes[1] for table in (predictions, joined))
    assert both.get_title() == alone.get_title(), "two networks of one quality, on scales of their own"
    assert len(both.lines) == 2 * len(CLASSES) + 1 and len(alone.lines) == len(CLASSES) + 1


def test_confidence_is_shown_for_correct_and_wrong_predictions(predictions):
    axis = figures.confidences({"test": predictions}, CLASSES, {"test": 0.99}).axes[0]
    bars = [bar.get_height() for bar in axis.patches if bar.get_facecolor()[:3] == to_rgb(figures.PALETTE[1])]
    wrong = predictions[predictions.label != predictions.predicted].filter(like="p_").max(axis=1)
    assert bars == pytest.approx(100 * np.histogram(wrong, np.linspace(0, 1, 11))[0] / len(wrong)), "of the wrong ones"
    assert [line.get_xdata()[0] for line in axis.lines][1] == 0.99


def test_recall_of_a_class_stands_in_its_row():
    entry = {"value": 0.9, "low": 0.8, "high": 1.0}
    record = {"per_class": {c: {"recall": entry | {"value": 0.8 + k / 20}, "f2": entry} for k, c in enumerate(CLASSES)}}
    recall, _ = figures.per_class({"a": record, "b": record}, CLASSES).axes
    assert [t.get_text() for t in recall.get_yticklabels()] == ["c", "b", "a"]
    first = recall.containers[0].lines[0].get_xydata()
    assert first[0] == pytest.approx([80, 2.3]) and first[-1] == pytest.approx([90, 0.3])
    nothing = {"value": None, "low": None, "high": None}  # of a class without an image in the test set
    record["per_class"][CLASSES[0]] = {"recall": nothing, "f2": entry | {"low": None, "high": None}}
    _, f2 = figures.per_class({"a": record}, CLASSES).axes
    assert f2.containers[0].lines[0].get_xdata()[0] == 90, "without limits it is a point"


def test_networks_are_compared_within_one_number_of_epochs():
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    run = {"model": "m", "pretrained": False, "image_size": 64}
    records = [
        {
            "run": run | {"model": f"{epochs} {value}"},
            "metrics": {"accuracy": entry | {"value": value}},
            "training": {"epochs": epochs, "seconds": 60},
            "parameters": 2_000_000,
        }
        for epochs, value in ((1, 0.5), (8, 0.45), (1, 0.6))
    ]
    accuracy, size, pace = figures.cost(records).axes
    assert [t.get_text().split("\n")[0] for t in accuracy.get_yticklabels()] == ["1 0.5", "1 0.6", "8 0.45"]
    colours = [bars.lines[0].get_color() for bars in accuracy.containers]
    assert colours[0] == colours[1] != colours[2], "a colour is a number of epochs"
    assert [line.get_xdata()[0] for line in pace.lines] == [60, 60, 7.5] and size.lines[0].get_xdata()[0] == 2


def test_pairs_of_duplicates_carry_labels_and_sets():
    pairs = pd.DataFrame({"i": [0], "j": [2], "kind": "near", "transform": "flipped-lr"})
    table = pd.DataFrame({"label": ["a", "b", "c"], "published_split": ["train", "train", "test"]})
    axes = figures.duplicate_pairs(pairs, np.arange(12).reshape(3, 2, 2), table).axes
    assert [axis.get_title() for axis in axes[:3]] == ["near\na, train", "flipped-lr\nc, test", ""]
    both = figures.beside(np.zeros((2, 2, 2)), np.ones((2, 2, 2)), ("before", "after")).axes
    assert [axis.images[0].get_array().max() for axis in both[:4]] == [0, 1, 0, 1], "each beside its original"


def test_even_rows_of_counts_look_even():
    mesh = figures.counts(pd.DataFrame([[37, 41], [40, 38]])).axes[0].collections[0]
    assert mesh.get_clim() == (0, 1)
    wide = pd.DataFrame(np.ones((2, 30), int), columns=[f"class {i}" for i in range(30)])
    assert len(figures.counts(wide).axes[0].get_yticklabels()) == 30, "many classes stand below each other"


def test_published_numbers_stand_beside_ours():
    entry = {"value": 0.9, "low": 0.88, "high": 0.92}
    record = {
        "run": {"model": "m", "split": "published"},
        "metrics": {"accuracy": entry},
        "published": {"accuracy": 0.99},
    }
    axis = figures.compared([record, record | {"published": None}]).axes[0]
    assert [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"] == [99]


def test_masks_lie_in_their_colour_on_the_image():
    image, masks = np.linspace(0, 200, 16).reshape(4, 4), np.zeros((2, 4, 4), np.uint8)
    masks[0, 0, 0] = masks[1, 3, 3] = 1
    masks[:, 0, 3] = 1
    rgb = figures.overlay(image, masks)
    assert rgb[0, 0].argmax() == 0 and rgb[3, 3].argmax() == 1, "red, green"
    assert np.ptp(rgb[1, 1]) == 0 and rgb.min() >= 0 and rgb.max() <= 1, "grey elsewhere"
    grey = image[0, 3] / 200
    assert rgb[0, 3] == pytest.approx(0.4 * grey + 0.6 * np.array(to_rgb("#F0E442"))), "yellow where both lie"


def test_a_walk_shows_every_sequence_and_the_masks_slice_by_slice():
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 255, (7, 2, 16, 16), dtype=np.uint8), np.zeros((7, 3, 16, 16), np.uint8)
    for names, channels in ((("T1", "T2"), 2), (("T1c",), 1)):
        walked = figures.walk(images[:, :channels], masks, names, channels - 1)
        with Image.open(io.BytesIO(walked)) as gif:
            assert (gif.format, gif.n_frames, gif.width) == ("GIF", 7, 16 * (channels + 1))
            frame = np.asarray(gif.convert("RGB"))[-16:].astype(int)
        last = [frame[:, 16 * place : 16 * (place + 1)] for place in (channels - 1, channels)]
        assert (last[0] == last[1]).all() and np.ptp(last[0]) > 200, "without a mask the last two show the same"
        masks[3, 1] = 1
        with Image.open(io.BytesIO(figures.walk(images[:, :channels], masks, names, channels - 1))) as gif:
            gif.seek(3)
            assert np.ptp(np.asarray(gif.convert("RGB"))[-1, -1].astype(int)) > 80, "a mask keeps its colour"
        masks[:] = 0


def test_predictions_name_the_colours_that_they_show():
    images, masks = np.zeros((2, 8, 8)), np.ones((2, 1, 8, 8), np.uint8)
    shown = figures.show_predictions(images, {"truth": masks, "prediction": 1 - masks}, ["p", "q"], ["tumour"])
    colours = [np.ptp(a.images[0].get_array(), axis=2).max() > 0 for a in shown.axes]
    assert colours == [False, False, True, True, False, False], "images are grey, masks are coloured, no mask is not"
    assert [a.get_ylabel() for a in shown.axes[::2]] == ["image", "truth", "prediction"]
    assert [t.get_text() for t in shown.legends[0].texts] == ["tumour"]
    apart = np.stack([masks[:, 0], 1 - masks[:, 0]], axis=1)
    for both, named in ((apart, ["a", "b"]), (np.ones_like(apart), ["a", "b", "more than one"])):
        (legend,) = figures.show_predictions(images, {"truth": both}, ["p", "q"], ["a", "b"]).legends
        assert [t.get_text() for t in legend.texts] == named


def test_gates_are_drawn_with_the_tumour():
    epochs = [{f"gate{g}": np.full((1, 4, 4), 0.5) for g in (1, 2)} for _ in range(9)]
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = 1
    shown = figures.gate_maps(np.zeros((8, 8)), mask, epochs, most=4).axes
    assert [a.get_title() for a in shown if a.get_title()] == ["image", "epoch 1", "epoch 3", "epoch 6", "epoch 9"]
    maps = [a for a in shown if a.images and a.axison]
    assert len(maps) == 1 + 2 * 4 and all(len(a.collections) == 1 for a in maps), "the image once, a line in each"
    ((line,),) = [path.to_polygons() for path in maps[-1].collections[0].get_paths()]
    assert line.min() > 0.2 and line.max() < 0.55, "on the scale of the map, whatever its size"


def test_figures_of_segmentation_draw_what_they_are_given():
    history = pd.DataFrame({"epoch": [1, 2]} | {f"gate{g}_{v}": [0.1, 0.2] for g in range(1, 5) for v in VALUES})
    assert len(figures.gate_spread({"s2": history, "ours": history}).axes) == 4
    lines = figures.parameters_by_width({"a": {8: 100, 16: 400}}).axes[0].lines
    assert lines[0].get_ydata()[-1] == pytest.approx(4e-4)
    patients = pd.DataFrame({"a.pixels": [0, 10, 100], "a.dice": [1.0, 0.2, 0.8]})
    (points,) = figures.by_size(patients, ["a"]).axes[0].collections
    assert len(points.get_offsets()) == 2, "who has no such mask has no size"


def test_metrics_of_unets_stand_below_those_reported():
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    metrics = {name: entry for name in ("dice", "iou", "precision", "recall", "fnr", "fpr", "accuracy", "hd95")}
    run = {"dataset": "cheng", "split": "patient", "fold": 0, "image_size": 128}
    record = {"run": run, "metrics": metrics, "training": {"epochs": 3}}
    better = record | {"metrics": metrics | {"dice": entry | {"value": 0.55}}}
    reported, ours = figures.unet_metrics({"a": {"dice": 0.9}}, {"a": record, "b": better}).axes
    first, second = (bars.lines[0].get_ydata() for bars in ours.containers)
    assert len(first) == 7 and first[0] == 50 and second[0] == pytest.approx(55)
    assert np.nanmax(reported.containers[0].lines[0].get_ydata()) == 90
    assert pd.isna(reported.containers[1].lines[0].get_ydata()).all(), "what was not reported is not drawn"
    assert "cheng" in ours.get_title() and "3 epochs" in ours.get_title()


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
    *rows, scale = figures.show_reconstructions(images, drawn, "ab").axes
    assert [a.images[0].get_array().max() for a in rows] == [0, 0, 0.25, 0.25, 0.25, 0.25]
    assert scale.get_ylim()[1] == pytest.approx(0.25), "how large a difference is"
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
    reported = published | {"published": {"accuracy": 0.99}}
    axis = figures.against_patients([reported, patient]).axes[0]
    assert axis.get_xlabel().startswith("accuracy on brain-tumor-mri, %")
    drawn = [bars.lines[0].get_xdata()[0] for bars in axis.containers]
    assert drawn == pytest.approx([90, 90]) and min(axis.get_xlim()) > 80, "in percent, as the axis says"
    assert [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"] == [99]
