"""Maps of where a network looked: Grad-CAM and attention rollout. They illustrate and prove nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import Transfer


def grad_cam(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    layer: nn.Module | None = None,
    scores: Callable[[Any], Tensor] = lambda outputs: outputs,
) -> np.ndarray:
    """Grad-CAM: where the features support class `target` (Selvaraju et al. 2017, arXiv:1610.02391). The features are
    those of a backbone's `map`, of other models those of the last convolution.

    Args:
        x: input B×C×S×S; target: class index of each image, B.
        layer: whose output, B×D×s×s, is the features, where it is another one.
        scores: what the model returns → B×K, where these are not its logits.

    Returns:
        B×S×S in [0, 1]; all 0 where nothing supports the class.
    """
    if layer is None:
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        layer = model.map if isinstance(model, Transfer) else convolutions[-1]
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            score = scores(model.eval()(x.detach().clone().requires_grad_())).gather(1, target[:, None]).sum()
            gradient = torch.autograd.grad(score, kept[0])[0]
    finally:
        handle.remove()
    heat = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()  # B×1×s×s
    heat = F.interpolate(heat, x.shape[-2:], mode="bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).float().cpu().numpy()


@torch.no_grad()
def attention_rollout(model: Transfer, x: Tensor) -> np.ndarray:
    """How much the class token of a ViT attends to each patch through all layers (Abnar & Zuidema 2020,
    arXiv:2005.00928): the attention averaged over the heads, mixed half and half with the identity, multiplied.

    It shows where the network looked, not for which class. B×C×S×S → B×S×S in [0, 1].
    """
    kept: list[Tensor] = []
    attentions = [block.attn for block in model.backbone.blocks]
    fused = [attention.fused_attn for attention in attentions]
    handles = [
        a.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output)) for a in attentions
    ]
    try:
        for attention in attentions:
            attention.fused_attn = False  # the fused kernel never forms the matrix
        model.eval()(x)
    finally:
        for attention, before, handle in zip(attentions, fused, handles, strict=True):
            attention.fused_attn = before
            handle.remove()
    total = torch.eye(kept[0].shape[-1], device=x.device)
    for matrix in kept:  # B × heads × tokens × tokens
        total = (matrix.mean(1) + torch.eye(matrix.shape[-1], device=x.device)) / 2 @ total
    side = model.backbone.patch_embed.grid_size
    heat = total[:, 0, 1:].unflatten(1, side)[:, None]  # the share of each patch in the class token
    heat = F.interpolate(heat, x.shape[-2:], mode="bilinear")[:, 0]
    low = heat.amin((1, 2), keepdim=True)
    return ((heat - low) / (heat - low).amax((1, 2), keepdim=True).clamp_min(1e-12)).float().cpu().numpy()
