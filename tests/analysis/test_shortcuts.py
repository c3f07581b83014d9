"""Shortcut classifiers find what was planted and nothing else; views undo what they claim to undo."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datasets import transforms
from datasets.catalog import CATALOG, DataError, UnknownName
from datasets.curation.split_table import curate
from datasets.curation.thumbnails import look
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest, turns
from datasets.transforms import TRANSFORMS, clahe, head_mask, level, undo
from utils.analysis import shortcuts
from utils.analysis.shortcuts import cross_validated, file_traits, image_traits, orientation_features, source_traits


def disc(background=0, side=64, seed=0):
    """A bright disc with texture on a plain background, uint8."""
    y, x = np.mgrid[:side, :side] - side / 2
    noise = np.random.default_rng(seed).integers(60, 200, (side, side))
    return np.where(x**2 + y**2 < (side / 3) ** 2, noise, background).astype(np.uint8)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_undo_turns_every_transform_back(name):
    image = np.random.default_rng(0).integers(0, 255, (12, 12, 2), dtype=np.uint8)
    turned = np.stack([TRANSFORMS[name](image[..., c]) for c in range(2)], axis=2)
    assert np.array_equal(undo(turned, name), image)


def test_the_upright_view_undoes_the_planted_transposition(roots):
    manifest = read_manifest("phantom")
    rows = np.flatnonzero(manifest.transposed == "1")[:3]
    stored, upright = (ImageDataset("phantom", rows, image_size=64, view=v) for v in ("stored", "upright"))
    assert np.array_equal(upright[1]["image"], stored[1]["image"].swapaxes(1, 2))
    rest = np.flatnonzero(manifest.transposed == "0")[:1]
    assert np.array_equal(*(ImageDataset("phantom", rest, view=v)[0]["image"] for v in ("stored", "upright")))


def test_views_that_cannot_be_had_say_why(roots, monkeypatch, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'upright'"):
        ImageDataset("phantom", [0], view="uprigt")
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    with pytest.raises(DataError, match="no split table says"):
        turns("sartaj", pd.DataFrame({"path": ["a"]}))
    with pytest.raises(DataError, match="holds images of 'glioma', not one of"):
        ImageDataset("phantom", np.arange(20), classes=["notumor"])


def test_turns_of_a_real_set_come_from_its_committed_table():
    table = pd.read_csv(index.SPLITS / "brain-tumor-mri.csv", dtype=str, keep_default_na=False)
    found = turns("brain-tumor-mri", table[["path"]])
    assert (found == table["transform"].replace("", "upright")).all() and set(found) == {"upright", "flipped-lr"}


def test_levelling_takes_out_background_and_grey_scale_but_not_the_head():
    dark, light = level(disc(0)), level(np.uint8(disc(0) * 0.5))
    assert np.abs(dark.astype(int) - light).mean() < 4, "half as bright, the same image afterwards"
    assert (level(disc(20))[:5] == 0).all() and dark[32, 32] > 0
    assert np.array_equal(head_mask(disc()), transforms.head_mask(disc()))
    for odd in (np.zeros((8, 8), np.uint8), np.full((8, 8), 90, np.uint8), np.array([[3]], np.uint8)):
        assert level(odd).shape == odd.shape


def test_clahe_spreads_faint_contrast_and_takes_any_image(roots):
    rng = np.random.default_rng(0)
    faint = rng.integers(100, 112, (64, 64)).astype(np.uint8)
    spread = clahe(faint)
    assert spread.std() > 2 * faint.std() and spread.shape == faint.shape and spread.dtype == np.uint8
    order = np.corrcoef(faint.ravel(), spread.ravel())[0, 1]
    assert order > 0.9, "brighter stays brighter"
    for odd in (np.zeros((8, 8), np.uint8), np.full((8, 8), 90, np.uint8), np.array([[3]], np.uint8)):
        assert clahe(odd).shape == odd.shape
    stored, changed = (
        ImageDataset("phantom", [0], image_size=64, view=view)[0]["image"] for view in ("stored", "clahe")
    )
    assert np.array_equal(changed[0], clahe(stored[0].numpy())), "packed at 64 pixels, nothing is resized"


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


def test_scores_come_with_intervals_over_groups(roots):
    table = curate(look("phantom"))
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
