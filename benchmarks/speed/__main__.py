"""`make bench`: how fast the project is beside what it could be, as a measured table.

Writes `saved_metrics/benchmarks/speed.json`, and from it `docs/performance.md`. `--only TEXT` runs some parts alone;
the others keep what was measured before, with its date and machine. Needs the phantom.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import alternating
import torch
from parts import Part, parts
from report import page

from datasets.catalog import REPO
from utils.files import write_atomically
from utils.training.environment import git_revision, hardware, versions

RECORD, PAGE = REPO / "saved_metrics/benchmarks/speed.json", REPO / "docs/performance.md"


def measure(part: Part) -> dict:
    """The record of one part."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        found = alternating.compared(alternating.rounds(part.sides(Path(folder)), part.rounds), part.base)
    return {
        "base": part.base,
        "rounds": part.rounds,
        "sides": found,
        "took": round(time.monotonic() - began, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        "git": git_revision(),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    args = parser.parse_args()
    every = parts()
    if args.list:
        print("\n".join(every))
        return 0
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    logging.disable(logging.WARNING)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    for name in (name for name in every if args.only in name):
        torch.manual_seed(0)
        found = measure(every[name])
        print(f"{name} ({found['took']:.0f} s)")
        for side, value in found["sides"].items():
            times = f"{value['ratio']:.2f} times {found['base']}" if side != found["base"] else ""
            print(f"    {side:28} {value['seconds']:9.4f} s  {times}", flush=True)
        known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
        known[name] = found
        record = {name: known[name] for name in every if name in known}
        write_atomically(RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        write_atomically(PAGE, page(record, every))
    return 0


if __name__ == "__main__":
    sys.exit(main())
