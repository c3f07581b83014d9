"""Grad-CAM finds what a network was built to look at; attention rollout follows the attention of a ViT."""

import numpy as np
import pytest
import torch
from torch import nn

from models import build_backbone
from utils.evaluation import saliency


class BrightSpot(nn.Module):
    """Class 1 wherever it is bright: Grad-CAM has to point at the bright spot."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 9)

    def forward(self, x):
        bright = self.conv(x).mean((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("where", [(8, 8), (8, 24), (24, 16)])
def test_grad_cam_points_at_the_spot(where):
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, where[0] - 2 : where[0] + 3, where[1] - 2 : where[1] + 3] = 1
    heat = saliency.grad_cam(BrightSpot(), x, torch.tensor([1]))[0]
    assert abs(np.array(np.unravel_index(heat.argmax(), heat.shape)) - where).max() <= 2
    assert heat.max() == pytest.approx(1)
    assert saliency.grad_cam(BrightSpot(), x, torch.tensor([0])).max() == 0, "nothing speaks against itself"


def test_rollout_follows_the_attention():
    torch.manual_seed(0)  # two patches may be all but equal
    net = build_backbone("ViT-B16", image_size=64)
    net.backbone.blocks = net.backbone.blocks[:2]
    kept = []
    for block in net.backbone.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight)  # attention that differs from place to place
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output.mean(1)))
    heat = saliency.attention_rollout(net, torch.rand(2, 3, 64, 64))
    first, second = ((matrix + torch.eye(17)) / 2 for matrix in kept)
    patches = (second @ first)[:, 0, 1:].view(2, 4, 4)
    wanted = patches.argmax(-1)
    assert heat.shape == (2, 64, 64) and heat.min() == 0 and heat.max() == pytest.approx(1)
    assert np.array_equal(heat[:, 8::16, 8::16].argmax(-1), wanted.numpy())
    assert all(block.attn.fused_attn for block in net.backbone.blocks)
