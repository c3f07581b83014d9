"""The one loop: outputs that are not finite are refused; test-time augmentation; features that a layer is given."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import SEGMENTERS, CustomCNN, build_backbone
from utils.evaluation.embeddings import pixel_features
from utils.evaluation.predict import last_features, predict, run_model
from utils.evaluation.segmentation import predict_masks
from utils.training.augmentation import AUGMENTATIONS
from utils.training.tasks import Classification, Segmentation


def test_tta_of_an_identity_is_the_plain_prediction(parts):
    net, task = build_backbone("SqueezeNet", image_size=64), Classification(4)
    plain = predict(net, task, parts[0])
    assert np.allclose(predict(net, task, parts[0], augment=nn.Identity(), draws=4), plain, atol=1e-7)
    augment = AUGMENTATIONS["s3-tta"]()
    first, again, other = (predict(net, task, parts[0], augment=augment, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, plain) and not np.array_equal(first, other)
    assert np.allclose(first.sum(1), 1, atol=1e-5)


def test_any_batches_run_in_evaluation_without_gradients():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)).train()
    batches = [{"image": torch.rand(2, 3)}, {"image": torch.rand(1, 3)}]
    found = [out for _, out in run_model(net, lambda batch: batch["image"], batches)]
    assert all(torch.equal(out, net[0](batch["image"])) for out, batch in zip(found, batches, strict=True))
    assert not net.training and not any(out.requires_grad for out in found) and torch.is_grad_enabled()
    with pytest.raises(DataError, match="Sequential: outputs are not finite, scan 3"):
        list(run_model(net, lambda batch: batch["image"] / 0, batches, name="scan 3"))
    bf16 = [out for _, out in run_model(net, lambda batch: batch["image"], batches, precision="bf16")]
    assert bf16[0].dtype == torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused(roots, value):
    rows = make_split("phantom").test[:6]
    net = CustomCNN(image_size=64)
    unet = SEGMENTERS["ClassicUNet"](in_channels=4, out_channels=3, n_filters=2)
    with torch.no_grad():
        net.classifier[-1].bias[1] = unet.head.bias[0] = value
    with pytest.raises(DataError, match=r"CustomCNN: outputs are not finite, first for row \d+ of 'phantom'"):
        predict(net, Classification(4), ImageDataset("phantom", rows, image_size=64))
    masked = ImageDataset("phantom", rows, image_size=32, channels="all", masks=True)
    with pytest.raises(DataError, match="outputs are not finite"):
        list(predict_masks(unet, Segmentation(3), masked))


def test_features_are_the_input_of_the_last_layer(roots):
    rows = make_split("phantom").val
    model, data = CustomCNN(image_size=64), ImageDataset("phantom", rows, image_size=64)
    found = last_features(model, Classification(4), data)
    logits = model.classifier[-1](torch.from_numpy(found)).softmax(1).detach().numpy()
    assert found.shape == (len(rows), 128) and np.allclose(logits, predict(model, Classification(4), data), atol=1e-5)
    assert pixel_features(data).shape == (len(rows), 64 * 64) and not model.classifier[-1]._forward_hooks
