"""`python -m utils.report.ledger`: every run that the tables ask for, its state, its cost and its command."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.commands import errors_in_one_line

if TYPE_CHECKING:
    from utils.report.ledger.rows import Row


def budget(given: str) -> float:
    """Minutes: "150m", "2h", "2.5h" or "150"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mh]?)", given)
    if not found:
        raise argparse.ArgumentTypeError(f"'{given}': give minutes or hours, such as 150m or 2.5h")
    return float(found[1]) * (60 if found[2] == "h" else 1)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.report.ledger",
        description=__doc__.split("`: ")[1],
        epilog="exit codes of --run: 0 all went well; 1 a row failed, or that of --index lacks something; 2 wrong "
        "arguments; 3 no time to start a row; 75 time is over and the same command goes on; 130 stopped",
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="rows whose group or run has TEXT in it")
    parser.add_argument("--index", type=int, metavar="N", help="row N alone, as a task of jobs/ledger.job")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the list by the committed records to FILE")
    parser.add_argument("--run", action="store_true", help="run what is not done and lacks nothing, in order")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="rows at a time, which share the cores (1)")
    parser.add_argument("--budget", type=budget, metavar="TIME", help="of --run: 150m or 2.5h (no limit)")
    parser.add_argument("--minutes", type=float, dest="budget", metavar="N", help="the same in minutes, of one piece")
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


@errors_in_one_line(OSError)
def main(argv: Sequence[str] | None = None, plan: "Sequence[Row] | None" = None) -> int:
    """Command line; returns the exit code. `plan`: rows of a ledger other than ours."""
    args = arguments(argv)
    from utils.report.ledger.command import obey  # with torch, for which --help need not wait

    return obey(args, plan)


if __name__ == "__main__":
    sys.exit(main())
