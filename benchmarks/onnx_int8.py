"""Measures every saved classifier with 8-bit numbers: test accuracy, size and latency, beside those with 32 bits.

`python benchmarks/onnx_int8.py` writes saved_metrics/benchmarks/int8.json. It takes a minute a model, whose data set
must be here. Both files of a model are measured one after the other, so compare within a model.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from utils.commands import errors_in_one_line
from utils.export import MOST_TESTED, RANGES_FROM, WORSE, eight_bits, export
from utils.files import write_atomically
from utils.predict.model import SavedModel, cards
from utils.run import output_root
from utils.training.environment import git_revision, hardware, versions


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    argparse.ArgumentParser(prog="benchmarks/onnx_int8.py", description=__doc__.splitlines()[0]).parse_args(argv)
    torch.set_num_threads(1)
    found = {}
    for folder, card in cards():
        if not card.get("classes"):
            continue
        model = SavedModel(folder)
        with tempfile.TemporaryDirectory() as temporary:
            found[model.name] = eight_bits(model, export(model, Path(temporary) / "model.onnx"))
        print(model.name, json.dumps(found[model.name]), flush=True)
    facts = {"command": "python benchmarks/onnx_int8.py", "versions": versions(), "hardware": hardware()}
    facts |= {"git": git_revision(), "most_images": MOST_TESTED, "ranges_from": RANGES_FROM, "allowed_loss": WORSE}
    path = output_root() / "saved_metrics/benchmarks/int8.json"
    write_atomically(path, json.dumps(facts | {"models": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
