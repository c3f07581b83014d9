"""A page on this machine alone: drop an image or a volume, see what a saved model says. `python -m utils.app`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

from utils.commands import errors_in_one_line


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.app", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="best", help="asked by default, the best if left out")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args(argv)
    import matplotlib.pyplot as plt

    from utils.predict.page import serve  # with torch, for which --help need not wait

    plt.switch_backend("agg")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(args.model, args.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
