"""Callbacks for `fit(callback=…)`, which measure something inside a model after every epoch."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

KEPT = 4  # images whose maps are kept


class GradientWatch:
    """The gradient of each loss of a task (with `parts` and a `balance`) at the shared encoder, on `batch`, always the
    same images, none of them from the test set."""

    def __init__(self, task, batch: dict[str, Tensor]):
        self.task, self.batch = task, batch

    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gradient_NAME`, the norm of a loss's gradient at the encoder as it is, and `weight_NAME` in the balance."""
        shared = list(model.encoder.parameters())
        batch = {key: value.to(shared[0].device) for key, value in self.batch.items()}
        losses = self.task.parts(model(self.task.inputs(batch)), self.task.targets(batch))
        found = {f"weight_{name}": weight.item() for name, weight in self.task.balance.weights().items()}
        for name, loss in losses.items():
            # A missing gradient counts as 0: a batch without a tumour has none for the subtype.
            gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
            found[f"gradient_{name}"] = torch.nn.utils.get_total_norm(gradients).item()
        return found


class GateWatch:
    """The gates of an AttentionUNet on `inputs` B×C×S×S, none of them from the test set; `folder` receives
    `epoch-NNNN.npz` with the maps `gate1` (deepest) to `gate4` of the first `KEPT`."""

    def __init__(self, inputs: Tensor, folder: Path):
        self.inputs, self.folder = inputs, Path(folder)

    @torch.no_grad()
    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gateN_mean`, `gateN_spread`, `gateN_saturated` of each gate N, see `gate_statistics`."""
        maps = model(self.inputs.to(next(model.parameters()).device), return_attention=True)[1]
        gates = {f"gate{i}": gate for i, gate in enumerate(maps, start=1)}
        if not int(os.environ.get("RANK", 0)):
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = {name: gate[:KEPT, 0].cpu().numpy().astype(np.float16) for name, gate in gates.items()}
            np.savez_compressed(self.folder / f"epoch-{epoch:04d}.npz", **kept)
        return {f"{name}_{k}": v for name, gate in gates.items() for k, v in gate_statistics(gate).items()}

    def maps(self) -> list[dict[str, np.ndarray]]:
        """What was kept of every epoch, in order: gate → KEPT×h×w."""
        return [dict(np.load(path)) for path in sorted(self.folder.glob("epoch-*.npz"))]


def gate_statistics(gate: Tensor) -> dict[str, float]:
    """Of a gate's maps B×1×h×w: `mean`; `spread`, the standard deviation within an image, averaged over images;
    `saturated`, the share of pixels within .05 of 0 or 1, closed or open whatever the image shows."""
    spread, shut_or_open = gate.std((2, 3), correction=0), (gate < 0.05) | (gate > 0.95)
    found = {"mean": gate, "spread": spread, "saturated": shut_or_open.float()}
    return {name: values.mean().item() for name, values in found.items()}
