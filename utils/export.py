"""Exports a saved model as ONNX: pixels in, probabilities out, for programs without PyTorch.

`python -m utils.export MODEL` writes `MODEL.onnx`. Scaling, the repeated grey channel and the backbone's normalisation
are inside; crop and resizing are not, and stand in the file's metadata as on the card. Any number of images at once.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.catalog import DataError
from datasets.commands import NOTE, errors_in_one_line
from utils.files import replacing

if TYPE_CHECKING:  # imported where they are used: --help need not wait for them
    import numpy as np
    from torch import Tensor, nn

    from utils.predict.model import SavedModel

INPUT, OUTPUT = "pixels", "probabilities"
AGREES = 1e-4  # largest difference of a probability between PyTorch and onnxruntime


def exported(model: "SavedModel") -> "nn.Module":
    """The network of `model` with all that lies between the pixels, uint8 N×C×S×S as `Preparation` gives them, and the
    probabilities, N×K, or N×M×S×S of a segmenter."""
    from torch import nn

    from utils.evaluation.segmentation import Padded

    class Exported(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model.network if model.classes else Padded(model.network)

        def forward(self, pixels: "Tensor") -> "Tensor":
            return model.task.probabilities(self.network(model.task.inputs({"image": pixels})))

    return Exported().eval()


def export(model: "SavedModel", path: Path) -> Path:
    """Write `model` to `path` and check it against PyTorch; returns `path`.

    Raises `DataError`: the probabilities differ by more than `AGREES`, so that nothing is written.
    """
    import numpy as np
    import onnx
    import torch

    ready, any_number = exported(model), ({0: torch.export.Dim("batch", min=1)},)
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_shapes": any_number}
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        pixels = (example_pixels(model, 3),)
        proto = torch.onnx.export(ready, pixels, dynamo=True, opset_version=20, verbose=False, **names).model_proto
        facts = {"classes": json.dumps(model.classes or model.masks), "input": json.dumps(model.card["input"])}
        onnx.helper.set_model_props(proto, facts | {"name": model.name, "note": NOTE})
        temporary.write_bytes(proto.SerializeToString())
        for images in (1, 5):
            pixels = example_pixels(model, images)
            with torch.no_grad():
                difference = float(np.abs(run(temporary, pixels) - ready(pixels).numpy()).max())
            if not difference <= AGREES:
                raise DataError(f"{path}: onnxruntime differs from PyTorch by {difference:.1e}; nothing was written")
    return path


def example_pixels(model: "SavedModel", images: int) -> "Tensor":
    """Random pixels of the shape that a model takes."""
    import torch

    side, channels = model.preparation.size, len(model.preparation.channels)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, channels, side, side), dtype=torch.uint8, generator=generator)


def run(path: Path, pixels: "Tensor") -> "np.ndarray":
    """Probabilities of pixels N×C×S×S by onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: pixels.numpy()})[0]


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.export", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a saved model, a folder of one, 'best', or hf-hub:OWNER/NAME")
    parser.add_argument("--output", type=Path, metavar="FILE.onnx", help="default: MODEL.onnx in this folder")
    args = parser.parse_args(argv)
    from utils.predict.model import open_model

    model = open_model(args.model)
    path = export(model, args.output or Path(f"{model.name}.onnx"))
    print(f"{path}: {NOTE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
