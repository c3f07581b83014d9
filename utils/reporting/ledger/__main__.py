"""`python -m utils.reporting.ledger`: every run that the tables ask for, its state, its cost and its command."""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from utils.files import write_atomically
from utils.reporting.ledger import states
from utils.reporting.ledger.costs import Cost, cost
from utils.reporting.ledger.plan import PLAN
from utils.reporting.ledger.rows import Row, row_of
from utils.reporting.ledger.states import ABSENT, DONE, lacks, state_of, unknown, weights_of
from utils.reporting.ledger.work import work
from utils.reporting.records import load_evidence
from utils.reporting.runs import output_root

OTHERS = "11. Other runs in the tables"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Entry:
    """A row with its number, its state by the records, and what is lacking of the project and of this machine."""

    index: int
    row: Row
    records: Sequence[dict]

    @cached_property
    def unknown(self) -> str:
        return unknown(self.row)

    @cached_property
    def state(self) -> str:
        return ABSENT if self.unknown else state_of(self.row)

    @cached_property
    def lacks(self) -> str:
        return "" if self.state == DONE else self.unknown or lacks(self.row)

    def cost(self, gpu: bool) -> Cost | None:
        return None if self.unknown else cost(self.row, self.records, gpu)

    def command(self) -> str:
        weights = weights_of(self.row["model"]) if self.row["pretrained"] and not self.unknown else ""
        return shlex.join(["python", *self.row.command(weights or "imagenet")])

    def facts(self) -> dict[str, object]:
        found = {"index": self.index, "group": self.row.group, "run": self.row.name, "state": self.state}
        found |= {"lacks": self.lacks, "command": self.command()}
        for unit, gpu in (("core_hours", False), ("gpu_minutes", True)):
            value = self.cost(gpu)
            found |= {unit: value and value.value, f"{unit}_source": value and value.source}
        return found


def evidence_of(*folders: Path) -> list[dict]:
    """The records of several `saved_metrics/`, those of later ones in place of earlier ones."""
    found = [load_evidence(folder) for folder in dict.fromkeys(folders)]
    return list({record["id"]: record for each in found for record in each.records}.values())


def entries(plan: Sequence[Row], records: Sequence[dict]) -> list[Entry]:
    """The plan, then what else has a record, which a table may show: its folds may have been remade since."""
    names = {row.name for row in plan} | {run.id for row in plan if not unknown(row) for run in row.runs()}
    others = [row_of(record, OTHERS) for record in sorted(records, key=lambda r: r["id"]) if record["id"] not in names]
    return [Entry(i, row, records) for i, row in enumerate([*plan, *filter(None, others)])]


def amount(value: Cost | None) -> str:
    return f"{value.value:.1f}" if value else NOT_MEASURED


def text(found: Sequence[Entry]) -> str:
    """For a terminal: a line a row, below it what it lacks or its command, and where the cost was measured."""
    lines, group = [], ""
    for entry in found:
        if entry.row.group != group:
            group = entry.row.group
            lines.append(f"\n{group}\n  row  state         core-hours    GPU-minutes   run")
        costs = [entry.cost(gpu) for gpu in (False, True)]
        state = "lacks" if entry.lacks else entry.state
        lines.append(
            f"{entry.index:5}  {state:12}  " + "  ".join(f"{amount(c):12}" for c in costs) + f"  {entry.row.name}"
        )
        if entry.lacks:
            lines.append(f"{'':7}lacks: {entry.lacks}")
        if entry.state != DONE:
            lines.append(f"{'':7}{entry.command()}")
            sources = dict.fromkeys(c.source for c in costs if c)
            lines += [f"{'':7}cost by {source}" for source in sources]
    return "\n".join([*lines, "", summary(found)])


def summary(found: Sequence[Entry]) -> str:
    counts = Counter("lacking something" if entry.lacks else entry.state for entry in found)
    hours = sum(c.value for e in found if e.state != DONE and not e.lacks and (c := e.cost(False)))
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    return f"{len(found)} rows: {states}. What can be run here takes {hours:.1f} core-hours, as far as measured."


def markdown(found: Sequence[Entry]) -> str:
    """For the repository: by the committed records alone, so that every machine writes the same."""
    head = "# Ledger of runs\n\nMade by `make tables` from `saved_metrics/` and the plan in `utils/reporting/ledger/`; "
    head += "`python -m utils.reporting.ledger` shows the commands and what this machine lacks.\n"
    lines, group = [head], ""
    for entry in found:
        if entry.row.group != group:
            group = entry.row.group
            lines.append(f"\n## {group}\n\n| row | run | state | core-hours | measured from |\n|---|---|---|---|---|")
        value = entry.cost(False)
        state = entry.unknown or state_of(entry.row, here=False)
        source = f"`{value.source}`" if value else ""
        lines.append(f"| {entry.index} | `{entry.row.name}` | {state} | {amount(value)} | {source} |")
    return "\n".join([*lines, ""])


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
    elif args.json:
        print(json.dumps([entry.facts() for entry in found], indent=1))
    elif args.run:
        return run(found, args)
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
