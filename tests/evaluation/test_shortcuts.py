"""Shortcut classifiers find what was planted and nothing else."""

import numpy as np
import pandas as pd
from PIL import Image
from scenes import disc

from datasets.catalog import CATALOG
from datasets.curation.split_table import curate
from datasets.curation.thumbnails import look
from datasets.store.index import read_manifest
from utils.evaluation import shortcuts
from utils.evaluation.shortcuts import cross_validated, file_traits, image_traits, orientation_features, source_traits


def test_traits_see_borders_background_and_sharpness():
    plain, framed = image_traits(disc()), image_traits(np.pad(disc(), ((0, 16), (8, 0))))
    assert framed["border_bottom"] > plain["border_bottom"] and framed["border_left"] > plain["border_left"]
    assert image_traits(disc(background=12))["background_zero"] < plain["background_zero"] == 1
    smooth = np.asarray(Image.fromarray(disc()).resize((16, 16)).resize((64, 64)))
    assert image_traits(smooth)["sharpness"] < plain["sharpness"]
    for odd in (np.zeros((8, 8), np.uint8), np.array([[3]], np.uint8)):
        assert all(np.isfinite(list(image_traits(odd).values())))


def test_file_traits_see_how_a_jpeg_was_made(tmp_path):
    found = []
    for quality in (40, 95):
        Image.fromarray(disc()).save(tmp_path / "a.jpg", quality=quality)
        found.append(file_traits((tmp_path / "a.jpg").read_bytes()))
    assert found[0]["jpeg_luma"] > found[1]["jpeg_luma"] > 0 and found[0]["colour"] == 0
    Image.fromarray(disc()).convert("RGB").save(tmp_path / "a.png")
    assert file_traits((tmp_path / "a.png").read_bytes()) == {"colour": 1.0, "jpeg_luma": 0.0, "jpeg_chroma": 0.0}


def test_orientation_reveals_the_class_only_where_it_was_planted(roots):
    manifest = read_manifest("phantom")
    table = curate(look("phantom"))
    fold, classes = table.fold.to_numpy(), CATALOG["phantom"].classes
    planted, none = (
        np.array(classes)[cross_validated(orientation_features(seen), table.label, fold, classes).argmax(1)]
        for seen in (manifest.transposed, ["0"] * len(table))
    )
    assert (planted == table.label).mean() > (none == table.label).mean()
    assert all(len(set(none[fold == f])) == 1 for f in range(5)), "without features there is one answer a fold"
    found = shortcuts.score("phantom", table, source_traits("phantom", "stored"), resamples=20)
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert not shortcuts.has_files("phantom")


def test_cross_validation_never_trains_on_the_fold_it_predicts():
    rng = np.random.default_rng(0)
    own = pd.DataFrame({"id": np.arange(200)})  # learned by heart, it says nothing about other rows
    labels = rng.choice(["a", "b"], 200)
    probs = cross_validated(own, labels, rng.integers(0, 5, 200), ["a", "b"])
    assert 0.35 < (np.array(["a", "b"])[probs.argmax(1)] == labels).mean() < 0.65
    assert np.allclose(probs.sum(1), 1)
