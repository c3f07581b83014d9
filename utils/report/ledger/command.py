"""What `python -m utils.report.ledger` does: lists the runs, writes the list, runs what is not done."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from utils.files import write_atomically
from utils.report.ledger import states
from utils.report.ledger.entries import Entry, entries, evidence_of
from utils.report.ledger.listing import markdown, text
from utils.report.ledger.plan import PLAN
from utils.report.ledger.rows import Row
from utils.report.ledger.states import DONE
from utils.report.ledger.work import work
from utils.run import output_root


def obey(args: argparse.Namespace, plan: Sequence[Row] | None = None) -> int:
    """Do what the command line asks for, of the rows of `plan`, ours by default; returns the exit code."""
    folders = [states.COMMITTED] if args.markdown else [states.COMMITTED, output_root() / "saved_metrics"]
    records = evidence_of(*folders)
    every = entries(PLAN if plan is None else plan, records)
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
