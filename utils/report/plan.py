"""`python -m utils.report.plan`: the runs that the tables ask for and that have no record yet; `--run` makes them.

`plan.csv` beside this file is the list, a row a command, in order of value: what it is for, the chapter (or the command
`probes`), its parameters, the data sets and the backbone's weights that it needs, its epochs, the ids of its runs.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from datasets import catalog
from datasets.catalog import REPO, DataError
from datasets.commands import errors_in_one_line
from datasets.store import index
from models.backbones import SQUEEZENET, TIMM
from utils.report.records import Evidence, load_evidence

PLAN = Path(__file__).with_suffix(".csv")
DONE, SHORT, MISSING = "done", "fewer epochs", "missing"
# Exit codes: a row failed, or the only one lacks something; 75 and 130 as of `utils.headless`.
WENT_WELL, FAILED, NONE_STARTED, PAUSED, STOPPED = 0, 1, 3, 75, 130
FOLDER = "BRAIN_MRI_WEIGHTS"  # names a folder of weight files


def read_plan(evidence: Evidence) -> pd.DataFrame:
    """The rows of `plan.csv` and their `state`: done, fewer epochs (than planned, so to be made again) or missing."""
    plan = pd.read_csv(PLAN, keep_default_na=False, dtype=str)
    epochs = {run: (evidence.record(run)["recipe"] or {}).get("epochs", 0) for run in evidence.runs.index}
    trained = [min(epochs.get(run, -1) for run in runs.split()) for runs in plan.runs]  # the shortest of a row
    wanted = [int(one or 0) for one in plan.epochs]
    states = [MISSING if n < 0 else SHORT if n < most else DONE for n, most in zip(trained, wanted, strict=True)]
    return plan.assign(state=states)


def weights_file(backbone: str) -> str:
    """The file in `$BRAIN_MRI_WEIGHTS` that is named after a backbone, by our name or timm's; "" where none is."""
    names = {_plain(name): name for name in (SQUEEZENET, *TIMM)}
    names |= {_plain(tag.split(".")[0]): name for name, tag in TIMM.items()} | {_plain(backbone): backbone}
    folder = os.environ.get(FOLDER)
    for path in sorted(Path(folder).expanduser().resolve().glob("*")) if folder else ():
        fitting = [name for name in names if _plain(path.stem).startswith(name)]
        if path.suffix in (".safetensors", ".pth") and fitting and names[max(fitting, key=len)] == backbone:
            return str(path)
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def lacks(row: pd.Series) -> str:
    """What a row needs and this machine lacks, and the command that brings it; "" where all is here."""
    for name in row.data.split():
        try:
            index.require(name)
        except DataError:
            return f"data set '{name}' is not here; {catalog.get(name).bring}"
    if "weights=FILE" in row.parameters and not weights_file(row.weights):  # the hub has none that fit
        return f"ImageNet weights of {row.weights} are not here: name a folder with their file in ${FOLDER}"
    return ""


def command(row: pd.Series) -> list[str]:
    """What follows `python`; weights are those of `$BRAIN_MRI_WEIGHTS` where that has their file, else the hub's."""
    given = dict(pair.split("=", 1) for pair in row.parameters.split())
    if row.weights:
        given["weights"] = weights_file(row.weights) or given["weights"]
    if row.chapter == "probes":
        options = [(f"--{name.replace('_', '-')}", value) for name, value in given.items() if name != "dataset"]
        return ["-m", "utils.report.probes", given["dataset"], *(word for pair in options for word in pair)]
    pairs = [word for pair in given.items() for word in ("-p", *pair)]
    return ["-m", "utils.headless", f"notebooks/{row.chapter}.ipynb", *pairs]


def show(plan: pd.DataFrame) -> None:
    """Print what is not done, in order: its number, its command, and what it needs or lacks here."""
    for number, row in plan[plan.state != DONE].iterrows():
        weights = f"; ImageNet weights of {row.weights}" if row.weights else ""
        epochs = f"; time for {row.epochs} epochs" if row.epochs else ""
        missing = lacks(row)
        print(f"{number:4}  {row.what_for}: {row.state}\n      {shlex.join(['python', *command(row)])}")
        print(f"      lacks: {missing}" if missing else f"      needs: {row.data}{weights}{epochs}")
    print(f"{len(plan)} rows: " + ", ".join(f"{n} {state}" for state, n in plan.state.value_counts().items()))


def work(rows: pd.DataFrame, most: int) -> int:
    """Run up to `most` rows one after the other; what lacks something or fails is named, and the next one follows.
    Returns an exit code: 3 where a STOP file was there before any row was started."""
    codes = []
    for number, row in rows.iterrows():
        if row.state == DONE:
            print(f"row {number}: done already", flush=True)
        elif missing := lacks(row):
            print(f"row {number}: not run, it lacks: {missing}", flush=True)
        elif len(codes) < most:
            if Path(os.environ.get("BRAIN_MRI_STOP") or "no file").exists():
                print(f"row {number}: not started, a STOP file is there: {os.environ['BRAIN_MRI_STOP']}")
                return PAUSED if codes else NONE_STARTED
            codes.append(_run(command(row)))
            if codes[-1] == PAUSED:
                return PAUSED
            print(f"row {number}: " + ("done" if not codes[-1] else f"FAILED, exit code {codes[-1]}"), flush=True)
    return FAILED if any(codes) or (len(rows) == 1 and rows.state.iloc[0] != DONE and not codes) else WENT_WELL


def _run(words: Sequence[str]) -> int:
    process = subprocess.Popen([sys.executable, *words], cwd=REPO)
    try:
        return process.wait()
    except BaseException:  # Ctrl-C or SIGTERM: training keeps its last whole epoch
        process.terminate()
        process.wait()
        raise


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: list the runs that the tables ask for and that are not done, or run them."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.plan", description=main.__doc__)
    parser.add_argument("--run", type=int, nargs="?", const=sys.maxsize, metavar="N", help="run N rows (all)")
    parser.add_argument("--row", type=int, metavar="N", help="run row N alone, as a task of jobs/plan.job does")
    args = parser.parse_args(argv)
    plan = read_plan(load_evidence())
    if args.row is not None and not 0 <= args.row < len(plan):
        parser.error(f"no row {args.row}: the plan has rows 0 to {len(plan) - 1}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if args.row is not None:
            return work(plan.loc[[args.row]], 1)
        if args.run is not None:
            return work(plan[plan.state != DONE], args.run)
    except KeyboardInterrupt:
        return STOPPED
    show(plan)
    return WENT_WELL


if __name__ == "__main__":
    sys.exit(main())
