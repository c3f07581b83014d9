"""Exports every architecture with random weights and measures: difference from PyTorch, size, latency.

`python benchmarks/onnx_export.py` writes saved_metrics/benchmarks/onnx.json, an entry an architecture, so that it may
be interrupted and go on. It takes minutes, and 3 GB of memory for the largest network.
"""

import gc
import json
import sys
import tempfile
from pathlib import Path

import torch

from datasets.store.inputs import MINMAX, UNIT, Preparation
from models import BACKBONES, LOCALISERS, MODELS, MULTITASK, SEGMENTERS
from utils.export import AGREES, Exported, differences, example_pixels, latency, write
from utils.files import write_atomically
from utils.run import output_root
from utils.training.environment import hardware, versions
from utils.training.tasks import Classification, MultiTask, Outlining, Segmentation

SIDE = 96  # the smallest that every network takes


class Random:
    """What `utils.export` needs of a saved model, of a network with random weights."""

    def __init__(self, name: str):
        torch.manual_seed(0)
        self.name, self.masks, self.classes = name, [], ["a", "b", "c", "d"]
        if name in SEGMENTERS:
            self.network, self.task, self.masks = SEGMENTERS[name](), Segmentation(3), ["NCR", "ED", "ET"]
        elif name in MULTITASK:
            self.network, self.task = MULTITASK[name](width=8), MultiTask(4, 2)
        elif name in LOCALISERS:
            self.network = LOCALISERS[name](healthy=2, image_size=SIDE)
            self.task = Outlining(4, 2)
        else:
            self.network = (MODELS | BACKBONES)[name](num_classes=4, in_channels=3, image_size=SIDE)
            self.task = Classification(4, 3)
        self.network.eval()
        channels = ("T1", "T1c", "T2", "FLAIR") if self.masks else ("grey",)
        self.preparation = Preparation(channels, "none", SIDE, "stored", SIDE, scaling=MINMAX if self.masks else UNIT)
        self.card = {"input": self.preparation.as_card()}


@torch.no_grad()
def spread(model: Random) -> float:
    """Scale the last layer so that its outputs have mean 0 and spread 1: an untrained network answers nearly the same,
    or nearly 0 and 1, to everything, and then any two answers agree. Returns the spread of the probabilities."""
    kept: list[torch.Tensor] = []
    last = [m for m in model.network.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
    hook = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    exported = Exported(model).eval()
    exported(example_pixels(model, 4))
    hook.remove()
    scale = 1 / kept[0].std().clamp_min(1e-9)
    last.weight.mul_(scale)
    last.bias.sub_(kept[0].mean()).mul_(scale)
    return float(exported(example_pixels(model, 4)).std())


def main() -> int:
    torch.set_num_threads(1)
    path = output_root() / "saved_metrics/benchmarks/onnx.json"
    facts = {"command": "python benchmarks/onnx_export.py", "versions": versions(), "hardware": hardware()}
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("versions") != facts["versions"]:
        known = {}
    found = known.get("architectures", {})
    for name in [*MODELS, *SEGMENTERS, *MULTITASK, *LOCALISERS, *BACKBONES]:
        if name in found:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model, file = Random(name), Path(folder) / "model.onnx"
            varied = spread(model)
            write(model, file)
            difference = max(differences(model, file, images) for images in (1, 3))
            size = sum(part.stat().st_size for part in Path(folder).iterdir()) / 1e6
            ms = latency(file, example_pixels(model, 1))
        found[name] = {"difference": difference, "spread": round(varied, 4), "MB": round(size, 2), "ms": round(ms, 2)}
        print(name, found[name], "TOO FAR" * (difference > AGREES), flush=True)
        write_atomically(path, json.dumps(facts | {"side": SIDE, "architectures": found}, indent=1) + "\n")
        del model
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
