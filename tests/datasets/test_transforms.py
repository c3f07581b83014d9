"""Views undo what they claim to undo: turned images, background and grey scale of a source, faint contrast."""

import numpy as np
import pandas as pd
import pytest
from scenes import disc

from datasets.catalog import DataError, UnknownName
from datasets.store import index
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest, turns
from datasets.transforms import TRANSFORMS, clahe, level, undo


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


def test_turns_of_a_real_set_come_from_its_committed_table(monkeypatch, tmp_path):
    table = pd.read_csv(index.SPLITS / "brain-tumor-mri.csv", dtype=str, keep_default_na=False)
    found = turns("brain-tumor-mri", table[["path"]])
    assert (found == table["transform"].replace("", "upright")).all() and set(found) == {"upright", "flipped-lr"}
    monkeypatch.setattr(index, "SPLITS", tmp_path)
    with pytest.raises(DataError, match="no split table says"):
        turns("sartaj", pd.DataFrame({"path": ["a"]}))


def test_views_and_classes_that_cannot_be_had_say_why(roots):
    with pytest.raises(UnknownName, match="did you mean 'upright'"):
        ImageDataset("phantom", [0], view="uprigt")
    with pytest.raises(DataError, match="holds images of 'glioma', not one of"):
        ImageDataset("phantom", np.arange(20), classes=["notumor"])


def test_levelling_takes_out_background_and_grey_scale_and_clahe_spreads_faint_contrast(roots):
    dark, light = level(disc(0)), level(np.uint8(disc(0) * 0.5))
    assert np.abs(dark.astype(int) - light).mean() < 4, "half as bright, the same image afterwards"
    assert (level(disc(20))[:5] == 0).all() and dark[32, 32] > 0
    faint = np.random.default_rng(0).integers(100, 112, (64, 64)).astype(np.uint8)
    spread = clahe(faint)
    assert spread.std() > 2 * faint.std() and spread.shape == faint.shape and spread.dtype == np.uint8
    assert np.corrcoef(faint.ravel(), spread.ravel())[0, 1] > 0.9, "brighter stays brighter"
    for odd in (np.zeros((8, 8), np.uint8), np.full((8, 8), 90, np.uint8), np.array([[3]], np.uint8)):
        assert clahe(odd).shape == level(odd).shape == odd.shape
    stored, changed = (ImageDataset("phantom", [0], image_size=64, view=v)[0]["image"] for v in ("stored", "clahe"))
    assert np.array_equal(changed[0], clahe(stored[0].numpy())), "packed at 64 pixels, nothing is resized"
