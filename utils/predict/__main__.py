"""The command line of `python -m utils.predict`; `command.py` does what it asks for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.commands import NOTE, errors_in_one_line


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.predict",
        description=f"Ask a saved model about images, DICOM series and NIfTI volumes. {NOTE}",
        epilog="`python -m utils.predict list` shows the models. "
        "Exit codes: 0 all answered, 1 nothing could be answered, 2 wrong arguments, 3 some files were skipped",
    )
    parser.add_argument(
        "given",
        nargs="+",
        metavar="[MODEL] FILE",
        help="MODEL: a name from the list, several with commas between, a folder (of one model, or of folds to "
        "average), hf-hub:OWNER/NAME, or 'best', the default. FILE: an image, a NIfTI volume, a DICOM file (those of "
        "one series are one scan) or a folder",
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="answers as JSON, to FILE or the terminal")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="a figure of each answer, masks of volumes")
    return parser.parse_args(argv)


@errors_in_one_line(OSError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = _arguments(argv)
    from utils.predict.command import obey  # with torch, for which --help need not wait

    return obey(args.given, args.json, args.output)


if __name__ == "__main__":
    sys.exit(main())
