"""Callbacks for `fit(callback=…)`, which measure something inside a model after every epoch.

S2 found two of its gates all 0 or all 1; `GateWatch` measures that. `GradientWatch` measures the gradient of each of
several losses at a shared encoder.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SATURATED = 0.05  # nearer than this to 0 or 1, a gate's pixel is closed or open whatever the image shows
KEPT = 4  # images whose maps are kept


class GradientWatch:
    """Measures the gradient of each loss at the shared encoder after every epoch.

    Args:
        task: a task with `parts` and a `balance` (`tasks.MultiTask`).
        batch: images to measure on, the same every time; of training or validation, never of the test set.
    """

    def __init__(self, task, batch: dict[str, Tensor]):
        self.task, self.batch = task, batch

    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gradient_NAME`, the norm of a loss's gradient at the encoder as it is, and `weight_NAME` in the balance."""
        shared = list(model.encoder.parameters())
        batch = {key: value.to(shared[0].device) for key, value in self.batch.items()}
        losses = self.task.parts(model(self.task.inputs(batch)), self.task.targets(batch))
        weights, found = self.task.balance.weights(), {}
        for name, loss in losses.items():
            # A missing gradient counts as 0: a batch without a tumour has none for the subtype.
            gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
            norm = torch.nn.utils.get_total_norm(gradients)
            found |= {f"gradient_{name}": norm.item(), f"weight_{name}": weights[name].item()}
        return found


class GateWatch:
    """Measures the gates of an AttentionUNet after every epoch, and keeps the maps of some images in `folder`.

    Args:
        inputs: model inputs B×C×S×S, always the same, none of them from the test set.
        folder: receives `epoch-NNNN.npz` with the maps `gate1` (deepest) to `gate4` of the first `KEPT` inputs.
    """

    def __init__(self, inputs: Tensor, folder: Path):
        self.inputs, self.folder = inputs, Path(folder)

    @torch.no_grad()
    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gateN_mean`, `gateN_spread`, `gateN_saturated` of each gate N, see `statistics`."""
        device = next(model.parameters()).device
        maps = model(self.inputs.to(device), return_attention=True)[1]
        if not int(os.environ.get("RANK", 0)):
            if epoch == 1:  # what an earlier training left
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = {f"gate{i}": m[:KEPT, 0].cpu().numpy().astype(np.float16) for i, m in enumerate(maps, start=1)}
            np.savez_compressed(self.folder / f"epoch-{epoch:04d}.npz", **kept)
        return {f"gate{i}_{k}": v for i, m in enumerate(maps, start=1) for k, v in gate_statistics(m).items()}

    def maps(self) -> list[dict[str, np.ndarray]]:
        """What was kept of every epoch, in order: gate → KEPT×h×w."""
        return [dict(np.load(path)) for path in sorted(self.folder.glob("epoch-*.npz"))]


def gate_statistics(gate: Tensor) -> dict[str, float]:
    """Statistics of a gate's maps B×1×h×w.

    Returns:
        mean; spread: standard deviation within an image, averaged over images (0: the gate is the same everywhere);
        saturated: share of pixels within `SATURATED` of 0 or 1.
    """
    shut_or_open = (gate < SATURATED) | (gate > 1 - SATURATED)
    return {
        "mean": gate.mean().item(),
        "spread": gate.std((2, 3), correction=0).mean().item(),
        "saturated": shut_or_open.float().mean().item(),
    }
