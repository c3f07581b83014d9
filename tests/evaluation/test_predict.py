"""Predictions with test-time augmentation, and the gain by a change, image by image."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import SEGMENTERS, CustomCNN, build_backbone
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import predict
from utils.evaluation.segmentation import predict_masks
from utils.training.augmentation import AUGMENTATIONS
from utils.training.tasks import Classification, Segmentation


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused(roots, value):
    rows = make_split("phantom").test[:6]
    net = CustomCNN(image_size=64)
    with torch.no_grad():
        net.classifier[-1].bias[1] = value
    with pytest.raises(DataError, match=r"CustomCNN: outputs are not finite, first for row \d+ of 'phantom'"):
        predict(net, Classification(4), ImageDataset("phantom", rows, image_size=64))
    unet = SEGMENTERS["ClassicUNet"](in_channels=4, out_channels=3, n_filters=2)
    with torch.no_grad():
        unet.head.bias[0] = value
    masked = ImageDataset("phantom", rows, image_size=32, channels="all", masks=True)
    with pytest.raises(DataError, match="outputs are not finite"):
        list(predict_masks(unet, Segmentation(3), masked))
