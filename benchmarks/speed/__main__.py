"""`make bench`: how fast the project is beside what it could be, as a measured table.

Writes `saved_metrics/benchmarks/speed.json` (on a GPU `speed_gpu.json`), and of both `docs/performance.md`. `--only
TEXT` runs some parts alone; the others keep what was measured before, with its date and machine. Needs the phantom.
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
import report
import torch
from parts import Part, parts

from utils.files import write_atomically
from utils.training.environment import git_revision, hardware, versions


def measure(part: Part, gpu: bool) -> dict:
    """The record of one part."""
    began, wait = time.monotonic(), torch.cuda.synchronize if gpu else lambda: None
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
    ):
        torch.manual_seed(0)
        facts, sides = part.facts(), part.sides(Path(folder))
        rounds = alternating.rounds(sides, part.rounds, wait, 0.03 if gpu else 0.0)
    found = {"base": part.base, "rounds": len(rounds), "facts": facts, "sides": alternating.compared(rounds, part.base)}
    found |= {"took": round(time.monotonic() - began, 1), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    return found | {"hardware": hardware(), "versions": versions(), "git": git_revision()}


def main() -> int:
    """Time the parts that are asked for, one after another; what could not be measured keeps its earlier record."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=report.RECORDS, default="cpu")
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    args = parser.parse_args()
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    logging.disable(logging.WARNING)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Accelerate would take the GPU
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    every, path = parts(args.device), report.RECORDS[args.device]
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in [name for name in every if args.only in name]:
        print(name, end=" ", flush=True)
        try:
            record[name] = found = measure(every[name], args.device == "cuda")
        except Exception as error:  # of any library that a part compares with; the other parts go on
            found = {"dropped": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
            record.setdefault(name, found)
        ordered = {name: record[name] for name in every if name in record}
        write_atomically(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
        print(found.get("dropped") or f"({found['took']:.0f} s, {found['rounds']} rounds)")
        for side, value in found.get("sides", {}).items():
            print(f"    {side:36} {value['seconds']:9.4g} s  {value['ratio']:.2f} times {found['base']}", flush=True)
    write_atomically(report.PAGE, report.page(report.read()))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
