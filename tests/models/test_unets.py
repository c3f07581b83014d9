"""The U-Nets in one table: parameters exactly, forward and backward, sizes taken and refused, the gates."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from models import SEGMENTERS

PARAMETERS = {
    "ClassicUNet": {8: 344_227, 16: 1_375_043, 32: 5_496_451},
    "ImprovedUNet": {8: 214_043, 16: 799_075, 32: 3_082_739},
    "AttentionUNet": {8: 225_287, 16: 843_319, 32: 3_258_263},
    "ResidualUNet": {16: 840_195},  # MONAI's, chosen to have as many as AttentionUNet
}
unets = pytest.mark.parametrize("name", SEGMENTERS)


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, widths in PARAMETERS.items() for n in widths])
def test_parameter_count_is_the_reported_one(name, n):
    count = sum(p.numel() for p in SEGMENTERS[name](in_channels=4, out_channels=3, n_filters=n).parameters())
    print(f"{name}, n_filters={n}: {count:,}")
    assert count == PARAMETERS[name][n]


@unets
@pytest.mark.parametrize(("channels", "masks"), [(1, 1), (2, 3), (4, 3), (5, 2)])
def test_forward_and_backward_reach_every_parameter(name, channels, masks):
    net = SEGMENTERS[name](in_channels=channels, out_channels=masks, n_filters=8)
    logits = net(torch.rand(2, channels, 64, 64))
    assert logits.shape == (2, masks, 64, 64)
    nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@unets
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 80), (240, 240)])
def test_height_and_width_stay(name, height, width):
    with torch.device("meta"):
        assert SEGMENTERS[name]()(torch.empty(1, 4, height, width)).shape == (1, 3, height, width)


@unets
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 100, 96), "input of 100×96 pixels: 16 must divide both sides"),
        ((1, 4, 96, 100), "input of 96×100 pixels"),
        ((1, 3, 96, 96), "input of shape 1×3×96×96: this model was built for B×4×H×W"),
        ((4, 96, 96), "input of shape 4×96×96"),
    ],
)
def test_another_input_than_built_for_is_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        SEGMENTERS[name]()(torch.empty(shape))


@unets
@pytest.mark.parametrize("bad", ["in_channels", "out_channels", "n_filters"])
def test_wrong_arguments_are_named(name, bad):
    with pytest.raises(ValueError, match=f"{bad}=0"):
        SEGMENTERS[name](**{bad: 0})


@unets
def test_two_images_are_learned_by_heart(name):
    torch.manual_seed(0)
    net = SEGMENTERS[name](in_channels=1, out_channels=1, n_filters=8)
    x = torch.rand(2, 1, 32, 32)
    y = torch.zeros(2, 1, 32, 32)
    y[:, :, 8:20, 10:25] = 1
    x = x + 0.5 * y
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(250):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    assert ((net(x) > 0) == (y > 0.5)).float().mean() > 0.98


@unets
def test_eval_gives_an_image_the_same_logits_alone_and_in_a_batch(name):
    net = SEGMENTERS[name](n_filters=8).eval()
    x = torch.rand(3, 4, 64, 64)
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in x])
        assert torch.allclose(net(x), alone, atol=1e-5)


def test_attention_maps_come_on_request_from_the_deepest_gate_to_the_finest():
    net = SEGMENTERS["AttentionUNet"](n_filters=8).eval()
    x = torch.rand(2, 4, 64, 96)
    logits, maps = net(x, return_attention=True)
    assert torch.equal(logits, net(x))
    assert [tuple(m.shape) for m in maps] == [(2, 1, 8, 12), (2, 1, 16, 24), (2, 1, 32, 48), (2, 1, 64, 96)]
    assert all(((m > 0) & (m < 1)).all() for m in maps)


def test_a_closed_gate_lets_nothing_of_its_skip_through():
    net = SEGMENTERS["AttentionUNet"](n_filters=8).eval()
    x = torch.rand(1, 4, 32, 32)
    before = net(x)
    with torch.no_grad():
        score = net.gates[-1].score[1]
        score.weight.zero_()
        score.bias.fill_(-100)
    logits, maps = net(x, return_attention=True)
    assert maps[-1].max() < 1e-20 and not torch.allclose(logits, before)


NARROW = """
import torch
from models import MULTITASK, SEGMENTERS
for name, model in (SEGMENTERS | MULTITASK).items():
    print(name, flush=True)
    net = model(**{"width" if name in MULTITASK else "n_filters": 4}).to(memory_format=torch.channels_last)
    for _ in range(3):
        x = torch.rand(4, net.in_channels, 32, 32).contiguous(memory_format=torch.channels_last)
        y = net(x)
        sum(v.square().mean() for v in (y.values() if isinstance(y, dict) else [y])).backward()
"""


def test_narrow_networks_train_in_channels_last():
    """A strided 1×1 convolution of 4 channels corrupted memory: run apart, since it takes the process with it."""
    environment = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NARROW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert not done.returncode, f"died in {done.stdout.split()[-1:]}: {done.stderr[-500:]}"
