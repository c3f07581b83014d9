"""Every model in one table: parameters exactly, forward and backward, sizes taken and refused."""

import pytest
import torch
from torch import nn

from models import MODELS

PARAMETERS = {"CustomCNN": 3_001_156, "AlexNet": 4_589_316, "VGG16": 65_070_916, "ViT": 21_459_460}
# One batch is learned by heart at a rate that suits the depth; the tiny transformer keeps the test short.
OVERFIT = {
    "CustomCNN": (1e-3, {}),
    "AlexNet": (5e-4, {}),
    "VGG16": (1e-4, {"dropout": 0.0}),
    "ViT": (1e-3, {"dim": 64, "depth": 2, "heads": 2, "mlp_dim": 64}),
}
models = pytest.mark.parametrize("name", MODELS)


@models
def test_parameter_count_is_the_reported_one(name):
    count = sum(p.numel() for p in MODELS[name]().parameters())
    print(f"{name}: {count:,}")
    assert count == PARAMETERS[name]


@models
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_forward_and_backward_reach_every_parameter(name, channels):
    net = MODELS[name](num_classes=3, in_channels=channels, image_size=64)
    logits = net(torch.rand(2, channels, 64, 64))
    assert logits.shape == (2, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@models
def test_every_size_from_64_is_taken_or_refused(name):
    with torch.device("meta"):
        for size in range(60, 260):
            if size < 64 or (name == "ViT" and size % 16):
                with pytest.raises(ValueError, match=f"image_size={size}"):
                    MODELS[name](image_size=size)
            elif size % 8 == 0 or size < 90:
                net = MODELS[name](image_size=size)
                assert net(torch.empty(2, 3, size, size)).shape == (2, 4)


@models
@pytest.mark.parametrize("bad", [{"in_channels": 0}, {"in_channels": 5}, {"num_classes": 1}])
def test_wrong_arguments_are_named(name, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MODELS[name](**bad)


@models
@pytest.mark.parametrize("shape", [(2, 3, 64, 80), (2, 1, 64, 64), (3, 64, 64), (2, 3, 96, 96)])
def test_another_input_than_built_for_is_refused(name, shape):
    with torch.device("meta"), pytest.raises(ValueError, match="built for B×3×64×64"):
        MODELS[name](image_size=64)(torch.empty(shape))


@models
def test_one_batch_is_learned_by_heart(name):
    torch.manual_seed(0)
    rate, changes = OVERFIT[name]
    net = MODELS[name](image_size=64, **changes)
    x, y = torch.rand(8, 3, 64, 64), torch.arange(8) % 4
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        if (net(x).argmax(1) == y).all():  # in training mode: batch norm has no other statistics yet
            return
    pytest.fail("the batch was not learned in 80 steps")


@models
def test_eval_gives_an_image_the_same_logits_alone_and_in_a_batch(name):
    net = MODELS[name](image_size=64).eval()
    x = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in x])
        assert torch.allclose(net(x), alone, atol=1e-5)
