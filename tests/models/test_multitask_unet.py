"""S0's multi-task U-Net: its parameters, its outputs by name, and the sizes that it refuses."""

import pytest
import torch

from models import MultiTaskUNet


def test_parameters_are_those_of_s0():
    assert sum(p.numel() for p in MultiTaskUNet().parameters()) == 31_299_909


@pytest.mark.parametrize("width", [1, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_by_name_with_their_shapes(width, channels):
    outputs = MultiTaskUNet(width=width, in_channels=channels)(torch.rand(2, channels, 32, 48))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"latent": (2, 256), "tumour": (2,), "subtype": (2, 3), "reconstruction": (2, channels, 32, 48)}
    assert (outputs["latent"] >= 0).all(), "behind a ReLU"


def test_parts_can_be_left_out():
    x = torch.rand(2, 1, 32, 32)
    assert set(MultiTaskUNet(width=4, reconstruct=False)(x)) == {"latent", "tumour", "subtype"}
    flat = MultiTaskUNet(width=4, hierarchical=False)(x)
    assert set(flat) == {"latent", "classes", "reconstruction"} and flat["classes"].shape == (2, 4)


def test_alone_as_in_a_batch_and_refuses_other_sizes():
    net, x = MultiTaskUNet(width=4).eval(), torch.rand(3, 1, 32, 32)
    together, alone = net(x), net(x[1:2])
    assert all(torch.allclose(together[name][1:2], alone[name], atol=1e-5) for name in alone)
    with pytest.raises(ValueError, match="16 must divide both sides"):
        net(torch.rand(1, 1, 40, 32))
    with pytest.raises(ValueError, match="B×1×H×W"):
        net(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="width=0: at least 1"):
        MultiTaskUNet(width=0)


def test_channels_last_changes_nothing():
    torch.manual_seed(0)
    net, x = MultiTaskUNet(width=8, dropout=0.0), torch.rand(4, 1, 64, 64)
    plain = net(x)
    last = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert all(torch.allclose(plain[name], last[name], atol=1e-4) for name in plain)
