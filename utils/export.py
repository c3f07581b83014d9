"""Exports a saved model as ONNX: pixels in, probabilities out, for programs without PyTorch.

`python -m utils.export MODEL` writes `MODEL.onnx`. Scaling, the repeated grey channel and the backbone's normalisation
are inside; crop and resizing are not, and stand in the file's metadata as on the card. Any number of images at once.
"""

import argparse
import json
import sys
import timeit
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from utils.commands import errors_in_one_line
from utils.evaluation.segmentation import Padded
from utils.files import replacing
from utils.predict.calibrate import evidence_of
from utils.predict.model import SavedModel, open_models
from utils.report.records import PREDICTIONS, read_predictions
from utils.report.weights import NOTE

INPUT, OUTPUT = "pixels", "probabilities"
AGREES = 1e-4  # largest difference of a probability between PyTorch and onnxruntime
MOST_TESTED, RANGES_FROM = 600, 96  # images by which 8 bits are measured, and by which their ranges are chosen
WORSE = 0.01  # loss of accuracy up to which 8 bits are kept


class Exported(nn.Module):
    """A network with all that lies between the pixels, uint8 N×C×S×S as `Preparation` gives them, and the
    probabilities, N×K, or N×M×S×S of a segmenter."""

    def __init__(self, model: SavedModel):
        super().__init__()
        self.task = model.task
        self.network = model.network if model.classes else Padded(model.network)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.task.probabilities(self.network(self.task.inputs({"image": pixels})))


def export(model: SavedModel, path: Path) -> Path:
    """Write `model` to `path` and check it against PyTorch; returns `path`.

    Raises:
        DataError: the probabilities differ by more than `AGREES`, so that nothing is written.
    """
    ready, any_number = Exported(model).eval(), ({0: torch.export.Dim("batch", min=1)},)
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_shapes": any_number}
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        pixels = (example_pixels(model, 3),)
        proto = torch.onnx.export(ready, pixels, dynamo=True, opset_version=20, verbose=False, **names).model_proto
        facts = {"classes": json.dumps(model.classes or model.masks), "input": json.dumps(model.card["input"])}
        onnx.helper.set_model_props(proto, facts | {"name": model.name, "note": NOTE})
        temporary.write_bytes(proto.SerializeToString())
        for images in (1, 5):
            pixels = example_pixels(model, images, seed=images)
            with torch.no_grad():
                difference = float(np.abs(run(temporary, pixels) - ready(pixels).numpy()).max())
            if not difference <= AGREES:
                raise DataError(f"{path}: onnxruntime differs from PyTorch by {difference:.1e}; nothing was written")
    return path


def example_pixels(model: SavedModel, images: int, seed: int = 0) -> Tensor:
    """Random pixels of the shape that a model takes."""
    side, channels = model.preparation.size, len(model.preparation.channels)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (images, channels, side, side), dtype=torch.uint8, generator=generator)


def session(path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime's view of a file, on the CPU, with as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def run(path: Path, pixels: Tensor) -> np.ndarray:
    """Probabilities of pixels N×C×S×S by onnxruntime."""
    return session(path).run([OUTPUT], {INPUT: pixels.numpy()})[0]


def quantise(path: Path, pixels: Tensor) -> Path:
    """Write the model of `path` with 8-bit weights and activations beside it; returns the path of `NAME.int8.onnx`.
    By `pixels`, of training images N×C×S×S, the ranges of the 8-bit numbers are chosen."""
    # Here, since it puts a folder on the path that holds a `models` of its own, which a script would import for ours.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = ({INPUT: part.numpy()} for part in pixels.split(8))
    reader = SimpleNamespace(get_next=lambda: next(batches, None))
    # Signed activations have no fast convolution on a CPU: 7 ms in place of 1.1 for SqueezeNet.
    bits = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    bits |= {"quant_format": QuantFormat.QOperator, "op_types_to_quantize": ["Conv", "Gemm", "MatMul"]}
    target, prepared = path.with_suffix(".int8.onnx"), path.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        with replacing(target) as temporary:
            quantize_static(prepared, temporary, reader, **bits)
    finally:
        prepared.unlink(missing_ok=True)
    return target


def eight_bits(model: SavedModel, path: Path) -> dict[str, dict[str, float]]:
    """Size, latency and test accuracy of a classifier's file and of its 8-bit version, which is kept where accuracy
    falls by at most `WORSE`.

    Raises:
        DataError: the data set of the model or its evidence is not here, or it is no classifier.
    """
    if not model.classes or model.findings:
        raise DataError(f"{model.name}: 8 bits are measured for classifiers; leave --int8 out")
    run_of, _, folder = evidence_of(model)
    if run_of.test_on:
        raise DataError(f"{model.name}: tested on '{run_of.test_on}', another set than its own; leave --int8 out")
    tested = read_predictions(folder / PREDICTIONS)
    place = {name: row for row, name in enumerate(read_manifest(run_of.dataset).path)}
    test = np.array([place[name] for name in tested.path])
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(test))[:MOST_TESTED])
    others = np.setdiff1d(np.arange(len(place)), test)  # trained and validated on

    def pixels(rows: np.ndarray) -> Tensor:
        args = {"image_size": model.preparation.size, "view": model.preparation.view, "classes": model.classes}
        return ImageDataset(run_of.dataset, rows, target=run_of.target, **args).batch(range(len(rows)))["image"]

    small = quantise(path, pixels(np.sort(rng.permutation(others)[:RANGES_FROM])))
    images, labels = pixels(test[chosen]), tested.label.to_numpy()[chosen]
    facts = {}
    for name, file in (("fp32", path), ("int8", small)):
        predicted = np.array(model.classes)[model.decide(run(file, images))]
        facts[name] = measured(model, file) | {"accuracy": float((predicted == labels).mean()), "images": len(chosen)}
    facts["int8"]["kept"] = kept = facts["int8"]["accuracy"] >= facts["fp32"]["accuracy"] - WORSE
    if not kept:
        small.unlink()
    return facts


def measured(model: SavedModel, path: Path) -> dict[str, float]:
    """Size in MB of a file, and median ms of a pass of one image."""
    ready, one = session(path), {INPUT: example_pixels(model, 1).numpy()}
    times = timeit.repeat(lambda: ready.run([OUTPUT], one), number=1, repeat=23)[3:]  # the first ones warm up
    return {"MB": round(path.stat().st_size / 1e6, 2), "ms": round(1000 * float(np.median(times)), 2)}


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.export", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a saved model, a folder of one, 'best', or hf-hub:OWNER/NAME")
    parser.add_argument("--output", type=Path, metavar="FILE.onnx", help="default: MODEL.onnx in this folder")
    parser.add_argument("--int8", action="store_true", help="also with 8-bit numbers, measured on a test fold")
    args = parser.parse_args(argv)
    models = open_models(args.model)
    if len(models) > 1:
        raise DataError(f"{args.model}: {len(models)} models; name one")
    path = export(models[0], args.output or Path(f"{models[0].name}.onnx"))
    facts = eight_bits(models[0], path) if args.int8 else {"fp32": measured(models[0], path)}
    for name, entry in facts.items():
        print(name, json.dumps(entry))
    print(f"{path}: {NOTE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
