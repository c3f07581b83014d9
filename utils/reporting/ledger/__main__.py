"""`python -m utils.reporting.ledger`: every run that the tables ask for, its state, its cost and its command."""

import argparse
import json
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.files import write_atomically
from utils.reporting.ledger import states
from utils.reporting.ledger.entries import Entry, entries, evidence_of
from utils.reporting.ledger.listing import markdown, text
from utils.reporting.ledger.plan import PLAN
from utils.reporting.ledger.rows import Row
from utils.reporting.ledger.states import DONE
from utils.reporting.ledger.work import work
from utils.reporting.runs import output_root


def budget(given: str) -> float:
    """Minutes: "150m", "2h", "2.5h" or "150"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mh]?)", given)
    if not found:
        raise argparse.ArgumentTypeError(f"'{given}': give minutes or hours, such as 150m or 2.5h")
    return float(found[1]) * (60 if found[2] == "h" else 1)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.reporting.ledger",
        description=__doc__.split("`: ")[1],
        epilog="exit codes of --run: 0 all went well; 1 a row failed, or that of --index lacks something; 2 wrong "
        "arguments; 75 time is over and the same command goes on; 130 stopped",
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


def main(argv: Sequence[str] | None = None, plan: Sequence[Row] = PLAN) -> int:
    """Command line; returns the exit code."""
    args = arguments(argv)
    folders = [states.COMMITTED] if args.markdown else [states.COMMITTED, output_root() / "saved_metrics"]
    records = evidence_of(*folders)
    every = entries(plan, records)
    if args.index is not None and not 0 <= args.index < len(every):
        print(f"error: no row {args.index}; the ledger has rows 0 to {len(every) - 1}", file=sys.stderr)
        return 2
    found = every if args.index is None else [every[args.index]]
    found = [e for e in found if args.only.lower() in f"{e.row.group} {e.row.name}".lower()]
    if args.markdown:
        write_atomically(args.markdown, markdown(found))
        return 0
    if args.run:
        return run(found, args)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends it without a word
    if args.json:
        print(json.dumps([entry.facts() for entry in found], indent=1))
    else:
        print(text(found))
    return 0


def run(found: Sequence[Entry], args: argparse.Namespace) -> int:
    for entry in found:
        if entry.lacks:
            print(f"{entry.row.name}: not run, it lacks: {entry.lacks}")
        elif entry.state == DONE and args.index is not None:
            print(f"{entry.row.name}: done already")
    rows = [entry.row for entry in found if entry.state != DONE and not entry.lacks]
    print(f"rows to run: {len(rows)}, {args.workers} at a time", flush=True)
    code = work(rows, workers=args.workers, minutes=args.budget, say=lambda line: print(line, flush=True))
    return code or int(args.index is not None and any(entry.lacks for entry in found))


if __name__ == "__main__":
    sys.exit(main())
