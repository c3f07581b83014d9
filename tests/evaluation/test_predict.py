"""Predictions with test-time augmentation, and the gain by a change, image by image."""

import numpy as np
import pytest
from torch import nn

from models import build_backbone
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.training.augmentation import AUGMENTATIONS
from utils.training.tasks import Classification


def test_tta_of_an_identity_is_the_plain_prediction(parts):
    net, task = build_backbone("SqueezeNet", image_size=64), Classification(4)
    plain = predict(net, task, parts[0])
    assert np.array_equal(predict(net, task, parts[0], augment=nn.Identity(), draws=1), plain)
    assert np.allclose(predict(net, task, parts[0], augment=nn.Identity(), draws=4), plain, atol=1e-7)
    augment = AUGMENTATIONS["s3-tta"]()
    first, again, other = (predict(net, task, parts[0], augment=augment, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, plain) and not np.array_equal(first, other)
    assert np.allclose(first.sum(1), 1, atol=1e-5)


def test_a_gain_is_counted_image_by_image():
    gained, groups = [1, 1, 0, 0, -1, 1], ["a", "a", "b", "b", "c", "d"]
    found = mean_interval(gained, groups)
    assert found["value"] == pytest.approx(1 / 3, abs=1e-6) and found["low"] < 1 / 3 < found["high"]
    assert mean_interval([1, 0], ["a", "a"]) == {"value": 0.5, "low": None, "high": None}
