"""`make bench`: how fast the project is beside what it could be, as a measured table.

Writes `saved_metrics/benchmarks/speed.json` (on a GPU `speed_gpu.json`), and of both `docs/performance.md`. `--only
TEXT` runs some parts alone; the others keep what was measured before, with its date and machine. Needs the phantom.
"""

import argparse
import faulthandler
import gc
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

from report import PAGE, RECORDS, page, read

BEGAN = time.monotonic()  # importing torch belongs to the seconds that a run may take
SPARE = 4.0  # seconds before the end at which nothing is timed any longer
NOT_REACHED = "the time was over before it"


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=RECORDS, default="cpu")
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    parser.add_argument("--missing", action="store_true", help="parts that the record lacks")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    parser.add_argument("--seconds", type=float, default=890, help="the process ends within them; parts are dropped")
    parser.add_argument("--patience", type=float, default=120, help="seconds that a side may take to warm up")
    parser.add_argument("--record", type=Path, help="JSON to write instead of the committed one; no page is made then")
    parser.add_argument("--commit", default="", help="of the code, where it is no checkout")
    return parser.parse_args()


def measure(part, clock, commit: str) -> dict:
    """The record of one part."""
    import alternating

    from utils.training.environment import git_revision, hardware, versions

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        with alternating.at_most(clock.left()):
            facts, sides = part.facts(), part.sides(Path(folder))
        rounds, left_out = alternating.rounds(sides, part.rounds, clock)
    if part.base in left_out or not rounds:
        raise alternating.OutOfTime(left_out.get(part.base, NOT_REACHED))
    return {
        "base": part.base,
        "rounds": len(rounds),
        "facts": facts,
        "sides": alternating.compared(rounds, part.base),
        "left out": left_out,
        "took": round(time.monotonic() - began, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        "git": git_revision() or commit,
    }


def main() -> int:
    """Time the parts that are asked for, one after another."""
    args = arguments()
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Accelerate would take the GPU
    if not args.list:
        # Whatever hangs, in a compiler or a driver: the record is written after each part.
        faulthandler.dump_traceback_later(args.seconds, exit=True)
    import alternating
    import torch
    from parts import in_order, parts

    from utils.files import write_atomically

    every = parts(args.device)
    if args.list:
        print("\n".join(every))
        return 0
    logging.disable(logging.WARNING)
    gpu = args.device == "cuda"
    if not gpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    path = args.record or RECORDS[args.device]
    known = json.loads(path.read_text()) if path.is_file() else {}
    chosen = [name for name in in_order(every) if args.only in name]
    if args.missing:
        chosen = [name for name in chosen if "sides" not in known.get(name, {})]
    fresh = {name: {"dropped": NOT_REACHED} for name in chosen}

    def write() -> None:
        found = fresh | {name: one for name, one in known.items() if "sides" in one}
        found |= {name: one for name, one in fresh.items() if "sides" in one}
        record = {name: found[name] for name in every if name in found}
        write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    write()
    for name in chosen:
        part, end = every[name], BEGAN + args.seconds - SPARE
        clock = alternating.Clock(
            end=end,
            wait=torch.cuda.synchronize if gpu else lambda: None,
            least=0.03 if gpu and not part.whole else 0.0,
            patience=args.patience,
        )
        print(f"{name}", end=" ", flush=True)
        torch.manual_seed(0)
        try:
            if clock.left() < part.needs:
                raise alternating.OutOfTime(f"{max(0.0, clock.left()):.0f} s were left")
            fresh[name] = found = measure(part, clock, args.commit)
        except (Exception, alternating.OutOfTime) as error:
            fresh[name] = {"dropped": alternating.reason(error)}
            print(f"dropped: {fresh[name]['dropped']}")
        else:
            print(f"({found['took']:.0f} s, {found['rounds']} rounds)")
            for side, value in found["sides"].items():
                times = f"{value['ratio']:.2f} times {found['base']}" if side != found["base"] else ""
                print(f"    {side:36} {value['seconds']:9.4g} s  {times}", flush=True)
            for side, why in found["left out"].items():
                print(f"    {side:36} left out: {why}", flush=True)
        write()
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    if not args.record:
        write_atomically(PAGE, page(read()))
    print(f"{time.monotonic() - BEGAN:.0f} s: {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
