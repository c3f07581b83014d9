"""What the gates of `AttentionUNet` do while it learns: their maps after every epoch, and how far they are spread.

S2 found its two deep gates all 0 or all 1, which gates nothing. `GateWatch` measures that; `figures.py` draws it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from utils.recipes import RECIPES
from utils.runs import load_history
from utils.tables import STEPS_AT

SATURATED = 0.05  # nearer than this to 0 or 1 a gate's pixel is shut or open, whatever the picture shows
KEPT = 4  # pictures whose maps are kept


class GateWatch:
    """For `training.fit(watch=…)`: gate statistics for the history, and the maps of some pictures in `folder`.

    Args:
        inputs: model inputs B×C×S×S, always the same, none of them from the test part.
        folder: receives `epoch-NN.npz` with the maps `gate1` (deepest) to `gate4` of the first `KEPT` inputs.
    """

    def __init__(self, inputs: Tensor, folder: Path):
        self.inputs, self.folder = inputs, Path(folder)

    @torch.no_grad()
    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """`gateN_mean`, `gateN_spread`, `gateN_saturated` of each gate N, see `statistics`."""
        device = next(model.parameters()).device
        maps = model(self.inputs.to(device), return_attention=True)[1]
        if not int(os.environ.get("RANK", 0)):
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = {f"gate{i}": m[:KEPT, 0].cpu().numpy().astype(np.float16) for i, m in enumerate(maps, start=1)}
            np.savez_compressed(self.folder / f"epoch-{epoch:02d}.npz", **kept)
        return {f"gate{i}_{k}": v for i, m in enumerate(maps, start=1) for k, v in statistics(m).items()}

    def maps(self) -> list[dict[str, np.ndarray]]:
        """What was kept of every epoch, in order: gate → KEPT×h×w."""
        return [dict(np.load(path)) for path in sorted(self.folder.glob("epoch-*.npz"))]


def histories(records: Sequence[dict], folder: Path | None = None) -> dict[str, pd.DataFrame]:
    """The epochs of `AttentionUNet` under each recipe, patient fold 0 of `cheng` at `STEPS_AT` pixels, by recipe."""
    wanted = {"dataset": "cheng", "model": "AttentionUNet", "split": "patient", "fold": 0, "image_size": STEPS_AT}
    found = [r for r in records if all(r["run"][key] == value for key, value in wanted.items())]
    order = list(RECIPES)
    found.sort(key=lambda r: order.index(r["run"]["recipe"]))
    return {r["run"]["recipe"]: load_history(r, folder) for r in found}


def statistics(gate: Tensor) -> dict[str, float]:
    """How a gate's maps B×1×h×w are spread.

    Returns:
        mean; spread: standard deviation within a picture, averaged over pictures (0: the gate ignores the place);
        saturated: share of pixels within `SATURATED` of 0 or 1.
    """
    shut_or_open = (gate < SATURATED) | (gate > 1 - SATURATED)
    return {
        "mean": gate.mean().item(),
        "spread": gate.std((2, 3), correction=0).mean().item(),
        "saturated": shut_or_open.float().mean().item(),
    }
