"""The command `honest-brain-mri` of an installed package, in which this file is `honest_brain_mri/__init__.py`."""

import sys
from collections.abc import Sequence

USAGE = """honest-brain-mri COMMAND …, each with its own --help. For research and teaching, not a medical device.

  predict   ask a saved model about images, DICOM series and volumes
  audit     what the accuracy of any model on published brain-tumour images is worth
  download  bring a data set in, or list those that there are
  app       a page on this machine alone: drop an image, see what a saved model says
  export    write a saved model as ONNX"""


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to a command; returns its exit code."""
    name, *args = (sys.argv[1:] if argv is None else argv) or ["--help"]
    match name:
        case "predict":
            from utils.predict.__main__ import main as command
        case "audit":
            from utils.audit.__main__ import main as command
        case "download":
            from datasets.download import main as command
        case "app":
            from utils.predict.page import main as command
        case "export":
            from utils.export import main as command
        case "--help" | "-h":
            print(USAGE)
            return 0
        case _:
            print(f"error: {name}: no such command. {USAGE}", file=sys.stderr)
            return 2
    return command(args)
