"""`make faults`: what kills, full disks, damaged files and lost networks do to the project, as a measured table.

Writes `saved_metrics/benchmarks/faults.json`, and from it `docs/reliability.md`. `--only TEXT` runs some parts alone;
the others keep what was measured before, with its date.
"""

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from fuzzing import fuzz
from kills import CHAPTERS, TRAINING, chapter, differences, killed, left
from readers import READERS

from datasets.catalog import REPO
from utils.files import write_atomically
from utils.training.environment import git_revision, hardware

RECORD, PAGE = REPO / "saved_metrics/benchmarks/faults.json", REPO / "docs/reliability.md"
LOST_SHOWN = 20  # of a part, in the record
TRAINED, FUZZED = "in training or after", "damaged file"
LINE_SHOWN = 60  # characters of the last line before a kill
# Fault → the tests that do it, and which of them (as in pytest's -k). Each test is a try; a skipped one is none.
TESTED = {
    "disk is full (a real one, of some MB)": (
        "tests/training/test_resume.py tests/datasets/test_download_faults.py",
        "full",
    ),
    "quota, read-only disk, no right to write": (
        "tests/training/test_resume.py tests/datasets/test_download_faults.py",
        "refuses or may_not",
    ),
    "folder removed in mid-run": ("tests/notebooks/test_headless.py", "removed"),
    "network lost in a download": ("tests/datasets/test_kaggle.py", ""),
    "download or unpacking killed": ("tests/datasets/test_download_interrupted.py", ""),
    "two processes with one run": ("tests/training/test_resume.py", "lock"),
    "checkpoint damaged": ("tests/training/test_resume.py", "damaged or older or between or two_checkpoints"),
    "NaN in training, validation or a weight": ("tests/training/test_loop.py", "nan"),
    "resumed under other conditions": ("tests/training/test_resume.py", "conditions"),
    "checkpoint of another training": ("tests/training/test_resume.py", "another or start"),
    "one of 2 or 4 processes killed; another number at resume": ("tests/faults/test_ranks.py", ""),
    "clock set back": ("tests/faults/test_clock.py", ""),
    "killed for memory (a control group's limit)": ("tests/faults/test_memory.py", ""),
    "memory short within a notebook; sockets left": ("tests/notebooks/test_headless_faults.py", ""),
    "HDF5 that leads elsewhere, and other hostile files": ("tests/datasets/test_hostile_files.py", ""),
    "evidence damaged": ("tests/report/test_damaged_evidence.py", ""),
    "SLURM: warning, requeue, kill, a failing node": ("tests/jobs", "pauses or second or failure or failing"),
    "SLURM's configuration laid by others": ("tests/jobs/test_slurm_script.py", ""),
}


class Counts:
    """Tries of one fault: how many, what was lost, and where kills met a run."""

    def __init__(self) -> None:
        self.tries, self.lost, self.met, self.training = 0, [], [], 0

    def add(self, lost: str = "") -> None:
        self.tries += 1
        self.lost += [lost] if lost else []

    def as_dict(self, seconds: float) -> dict[str, object]:
        facts = {"tries": self.tries, "lost": len(self.lost), "what": self.lost[:LOST_SHOWN]}
        facts |= {"met": self.met, TRAINED: self.training} if self.met else {}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        return facts | {"seconds": round(seconds), "finished": finished, "git": git_revision(), "hardware": hardware()}


def tests(files: str, chosen: str) -> Counts:
    """Run tests; a failed one is lost."""
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        subprocess.run([*command, *files.split(), "-k", chosen], cwd=REPO, stdout=subprocess.DEVNULL, check=False)
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                failed = case.find("failure") is not None or case.find("error") is not None
                counts.add(case.get("name", "") if failed else "")
    return counts


def damaged_files(reader: str, tries: int, seed: int) -> Counts:
    """Fuzz one reader in a process of its own, forked since imports take seconds: a crash is lost, too."""
    counts = Counts()
    forked = multiprocessing.get_context("fork")
    verdicts, sender = forked.Pipe(duplex=False)
    process = forked.Process(target=_fuzz_into, args=(sender, reader, tries, seed))
    process.start()
    sender.close()
    while True:
        try:
            verdict = verdicts.recv()
        except EOFError:
            break
        counts.add(f"file {verdict.number}: {verdict.fault}" if verdict.fault else "")
    process.join()
    if process.exitcode:
        counts.add(f"the process ended with {process.exitcode} after {counts.tries} files")
    return counts


def _fuzz_into(sender: Connection, reader: str, tries: int, seed: int) -> None:
    for verdict in fuzz(reader, tries, seed):
        sender.send(verdict)


def kills(name: str, wanted: int, seed: int) -> Counts:
    """Kill a chapter again and again; every kill is a try, and all of a run are lost where its end differs.

    A run that ended before it was killed often enough is followed by another from the start.
    """
    counts, moments = Counts(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        ends: list[dict[str, object]] = []
        while counts.tries < wanted and len(ends) <= 3 * wanted:
            root, before = Path(folder) / str(len(ends)), counts.tries
            root.mkdir()
            command, env = chapter(name, root)
            log, straight = root.with_suffix(".log"), Path(folder) / "0.log"
            number = wanted - counts.tries if ends else 0  # the first run is the one to compare with
            try:
                for line, trained in killed(command, env, log, number, moments, straight):
                    counts.add()
                    counts.met.append(line[:LINE_SHOWN])
                    counts.training += trained
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                counts.add(str(error))
                return counts
            ends.append(left(root))
            if not ends[0] or (unlike := differences(ends[0], ends[-1])):
                counts.lost += [f"unlike: {unlike[0] if ends[0] else 'nothing was left'}"] * (counts.tries - before)
    if counts.tries < wanted:
        counts.add(f"only {counts.tries} of {wanted} kills met it alive")
    return counts


def parts(args: argparse.Namespace) -> dict[str, Callable[[], Counts]]:
    """Fault → what tries it."""
    found: dict[str, Callable[[], Counts]] = {}
    found[f"killed: {TRAINING}"] = lambda: kills(TRAINING, args.kills, args.seed)
    for name in CHAPTERS:
        found[f"killed: chapter {name}"] = lambda name=name: kills(name, args.kills, args.seed)
    for fault, (files, chosen) in TESTED.items():
        found[fault] = lambda files=files, chosen=chosen: tests(files, chosen)
    for reader in READERS:
        found[f"{FUZZED}: {reader}"] = lambda reader=reader: damaged_files(reader, args.tries, args.seed)
    return found


def page(record: dict[str, dict], every: Iterable[str]) -> str:
    """`docs/reliability.md`, from the record alone; `every` part that has no record is named."""
    tries, lost = (sum(found[name] for found in record.values()) for name in ("tries", "lost"))
    files = sum(found["tries"] for fault, found in record.items() if fault.startswith(FUZZED))
    places = sorted({f"{f['hardware']['cpu']}, {f['hardware']['cores']} cores" for f in record.values()})
    days = sorted({f["finished"][:10] for f in record.values()})
    minutes = sum(found["seconds"] for found in record.values()) / 60
    killed_runs = [found for found in record.values() if TRAINED in found]
    lines = [
        "# Reliability",
        "",
        "Made by `make faults` from `saved_metrics/benchmarks/faults.json`; no number is typed.",
    ]
    lines += [
        f"Measured {' and '.join(dict.fromkeys((days[0], days[-1])))} on {'; '.join(places)}: {tries:,} tries, "
        f"of these {files:,} damaged files; {lost:,} lost. The parts, most of them two at a time, sum up to "
        f"{minutes:.0f} minutes.",
        "",
        "*Survived*: after a kill the run goes on to the same weights, predictions and history, byte by byte; a "
        "damaged or hostile file is read, or refused in one line that says what is wrong, and nothing outside its "
        "folder is written; what the disk, the network or the memory refuses is said in one line, and the same "
        "command goes on. Everything else is *lost*.",
        "",
        f"Of {sum(found['tries'] for found in killed_runs)} kills at least "
        f"{sum(found[TRAINED] for found in killed_runs)} met a life that had trained an epoch; the others met one that "
        "was importing or reading, or that took up what an earlier one had trained.",
        "",
        "Not measured: power failures, disks that lie about `fsync`, locks between nodes of a real cluster, GPUs. The "
        "quota is an injected error, since root has none; the clock is set back for Python and the files, not for the "
        "machine.",
        "",
        "| fault | tries | survived | lost | seconds |",
        "|---|---|---|---|---|",
    ]
    for fault, found in record.items():
        row = (fault, found["tries"], found["tries"] - found["lost"], found["lost"], found["seconds"])
        lines.append(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in row)} |")
    untried = [fault for fault in every if not record.get(fault, {}).get("tries")]
    lines += ["", f"**Not measured yet**, though `make faults` does it: {'; '.join(untried)}."] if untried else []
    return "\n".join([*lines, ""])


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    parser.add_argument("--tries", type=int, default=170, metavar="N", help="damaged files for each reader (170)")
    parser.add_argument("--kills", type=int, default=7, metavar="N", help="kills for each chapter (7)")
    parser.add_argument("--seed", type=int, default=0, help="of damages and moments (0)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="parts at a time (2)")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    return parser.parse_args(words)


def timed(part: Callable[[], Counts]) -> tuple[Counts, float]:
    """Run a part; what it counted, and seconds."""
    began = time.monotonic()
    return part(), time.monotonic() - began


def note(fault: str, done: tuple[Counts, float], every: Iterable[str]) -> int:
    """Print and write what a part counted; returns the number of lost tries."""
    counts, seconds = done
    known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}  # now: other parts may run beside this one
    known[fault] = counts.as_dict(seconds)
    print(f"{fault}: {counts.tries} tries, {len(counts.lost)} lost", *counts.lost[:3], sep="\n    ", flush=True)
    record = {fault: known[fault] for fault in every if fault in known}
    write_atomically(RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_atomically(PAGE, page(record, every))
    return len(counts.lost)


def main() -> int:
    """Returns 1 where anything was lost."""
    args = arguments()
    every = parts(args)
    if args.list:
        print("\n".join(every))
        return 0
    chosen = [fault for fault in every if args.only in fault]
    fuzzed = [fault for fault in chosen if fault.startswith(FUZZED)]
    lost = sum(note(fault, timed(every[fault]), every) for fault in fuzzed)  # they fork, before there are threads
    with ThreadPoolExecutor(args.workers) as pool:
        running = {pool.submit(timed, every[fault]): fault for fault in chosen if fault not in fuzzed}
        for done in as_completed(running):
            lost += note(running[done], done.result(), every)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
