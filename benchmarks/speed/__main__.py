"""`make bench`: how fast the project is beside what it could be, as a measured table.

Writes `saved_metrics/benchmarks/speed.json` (on a GPU `speed_gpu.json`), and of both `docs/performance.md`. `--only
TEXT` runs some parts alone; the others keep what was measured before, with its date and machine. Needs the phantom.
"""

import argparse
import faulthandler
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
from parts import Part, in_order, parts
from report import PAGE, RECORDS, page, read

from utils.files import write_atomically
from utils.training.environment import git_revision, hardware, versions

NOT_REACHED = "the time was over before it"


def measure(part: Part, gpu: bool) -> dict:
    """The record of one part."""
    began, wait = time.monotonic(), torch.cuda.synchronize if gpu else lambda: None
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        torch.manual_seed(0)
        facts, sides = part.facts(), part.sides(Path(folder))
        rounds, left_out = alternating.rounds(sides, part.rounds, wait, 0.03 if gpu and not part.whole else 0.0)
    if part.base in left_out:
        raise RuntimeError(left_out[part.base])
    found = {"base": part.base, "rounds": len(rounds), "facts": facts}
    found |= {"sides": alternating.compared(rounds, part.base), "left out": left_out}
    found |= {"took": round(time.monotonic() - began, 1), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    return found | {"hardware": hardware(), "versions": versions(), "git": git_revision()}


def main() -> int:
    """Time the parts that are asked for, one after another."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=RECORDS, default="cpu")
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    parser.add_argument("--missing", action="store_true", help="parts that the record lacks")
    parser.add_argument("--seconds", type=float, default=3600, help="the process ends then; parts may be missing")
    parser.add_argument("--record", type=Path, help="JSON to write instead of the committed one; no page is made then")
    args = parser.parse_args()
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    logging.disable(logging.WARNING)
    # Whatever hangs, in a compiler or a driver: the record is written after each part.
    faulthandler.dump_traceback_later(args.seconds, exit=True)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Accelerate would take the GPU
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    every, path = parts(args.device), args.record or RECORDS[args.device]
    record = json.loads(path.read_text()) if path.is_file() else {}

    def write(name: str, found: dict) -> None:
        """Keep what a part found; what it found before stays where it could not be measured now."""
        if "sides" in found or "sides" not in record.get(name, {}):
            record[name] = found
        ordered = {name: record[name] for name in every if name in record}
        write_atomically(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")

    chosen = [name for name in in_order(every) if args.only in name]
    chosen = [name for name in chosen if not (args.missing and "sides" in record.get(name, {}))]
    for name in chosen:
        write(name, {"dropped": NOT_REACHED})
    for name in chosen:
        print(name, end=" ", flush=True)
        try:
            found = measure(every[name], args.device == "cuda")
        except Exception as error:
            found = {"dropped": alternating.reason(error)}
        write(name, found)
        print(found.get("dropped") or f"({found['took']:.0f} s, {found['rounds']} rounds)")
        for side, value in found.get("sides", {}).items():
            print(f"    {side:36} {value['seconds']:9.4g} s  {value['ratio']:.2f} times {found['base']}", flush=True)
        for side, why in found.get("left out", {}).items():
            print(f"    {side:36} left out: {why}", flush=True)
        torch.cuda.empty_cache()
    if not args.record:
        write_atomically(PAGE, page(read()))
    print(path, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
