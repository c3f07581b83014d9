"""`make faults`: what kills, full disks, damaged files and lost networks do to the project, as a measured table.

Writes `saved_metrics/benchmarks/faults.json`, and from it `docs/reliability.md`. `--only TEXT` runs some parts alone;
the others keep what was measured before, with its date.
"""

import argparse
import contextlib
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock

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
TRIES, KILLS, WORKERS = 170, 7, 2  # damaged files for each reader, kills for each chapter, parts at a time
DISK = "training/test_resume.py datasets/test_download_faults.py"
# Fault → the tests that do it, and which of them (as in pytest's -k). Each test is a try; a skipped one is none.
TESTED = {
    "disk is full (a real one, of some MB)": (DISK, "full"),
    "quota, read-only disk, no right to write": (DISK, "refuses or may_not"),
    "folder removed in mid-run": ("notebooks/test_headless.py", "removed"),
    "network lost in a download": ("datasets/test_kaggle.py", ""),
    "download or unpacking killed": ("datasets/test_download.py", "interrupted or taken_up or twice"),
    "two processes with one run": ("training/test_resume.py", "lock and not clock"),
    "checkpoint damaged": ("training/test_resume.py", "damaged or older or between or two_checkpoints"),
    "NaN in training, validation or a weight": ("training/test_loop.py", "nan"),
    "resumed under other conditions": ("training/test_resume.py", "conditions"),
    "checkpoint of another training": ("training/test_resume.py", "another or start"),
    "one of 2 or 4 processes killed; another number at resume": ("faults/test_ranks.py", ""),
    "clock set back": ("training/test_resume.py", "clock"),
    "killed for memory (a control group's limit)": ("faults/test_memory.py", ""),
    "HDF5 that leads elsewhere, and other hostile files": ("datasets/test_hostile_files.py", ""),
    "evidence damaged": ("report/test_evidence.py", "damaged"),
    "strangers' files put to the commands": ("faults/test_strangers.py", ""),
    "test files that pydicom and nibabel ship": ("predict/test_published_files.py", ""),
    "pipes, devices, links, odd terminals": (
        "test_commands.py training/test_resume.py",
        "regular_file or terminal or early or backend",
    ),
    "SLURM: warning, requeue, kill, a failing node": ("jobs", "pauses or second or failure or failing"),
    "SLURM's configuration laid by others": ("jobs/test_slurm_script.py", ""),
}
PAGE_TEXT = """# Reliability

Made by `make faults` from `saved_metrics/benchmarks/faults.json`; no number is typed. One part of it: \
`make faults ARGS="--only 'strangers'"`.
Measured {days} on {places}: {tries:,} tries, of these {files:,} damaged files; {lost:,} lost. The parts, most of them \
two at a time, sum up to {minutes:.0f} minutes.

*Survived*: after a kill the run goes on to the same weights, predictions and history, byte by byte; a damaged or \
hostile file is read, or refused in one line that says what is wrong, and nothing outside its folder is written; a \
stranger's file is answered as a plain file of the same pixels is, left out with a note, or refused in one line; what \
the disk, the network or the memory refuses is said in one line, and the same command goes on. Everything else is \
*lost*; so is a file that is read as something else than was written, where it holds a checksum: {sealed}.

Other formats of images hold none: where a byte has changed, they can be read as other pixels, which nobody notices. \
A JPEG is refused where its end is missing.

Of {kills} kills at least {training} met a life that had trained an epoch; the others met one that was importing or \
reading, or that took up what an earlier one had trained.

Not measured: power failures, disks that lie about `fsync`, locks between nodes of a real cluster, GPUs. The quota is \
an injected error, since root has none; the clock is set back for Python and the files, not for the machine.

| fault | tries | survived | lost | seconds |
|---|---|---|---|---|
"""


@dataclass
class Counts:
    """Tries of one fault: how many, what was lost; of kills the last lines before them, and how many met a training."""

    tries: int = 0
    lost: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    training: int = 0

    def add(self, lost: str = "") -> None:
        self.tries += 1
        self.lost += [lost] if lost else []


def tests(files: str, chosen: str) -> Counts:
    """Run tests; a failed one is lost."""
    counts, paths = Counts(), [f"tests/{file}" for file in files.split()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        subprocess.run([*command, *paths, "-k", chosen], cwd=REPO, stdout=subprocess.DEVNULL, check=False)
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                failed = case.find("failure") is not None or case.find("error") is not None
                counts.add(case.get("name", "") if failed else "")
    return counts


def damaged_files(reader: str) -> Counts:
    """Fuzz one reader in a process of its own, forked since imports take seconds: a crash is lost, too."""
    counts, forked = Counts(), multiprocessing.get_context("fork")
    found, sender = forked.Pipe(duplex=False)
    process = forked.Process(target=lambda: [sender.send(one) for one in fuzz(reader, TRIES)])
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):
        while True:
            number, fault = found.recv()
            counts.add(f"file {number}: {fault}" if fault else "")
    process.join()
    if process.exitcode:
        counts.add(f"the process ended with {process.exitcode} after {counts.tries} files")
    return counts


def kills(name: str, wanted: int = KILLS) -> Counts:
    """Kill a chapter again and again; every kill is a try, and all of a run are lost where its end differs. A run that
    ended before it was killed often enough is followed by another from the start."""
    counts, moments, ends = Counts(), random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        while counts.tries < wanted and len(ends) <= 3 * wanted:
            root, before = Path(folder) / str(len(ends)), counts.tries
            root.mkdir()
            (command, env), straight = chapter(name, root), Path(folder) / "0.log"
            number = wanted - counts.tries if ends else 0  # the first run is the one to compare with
            try:
                for line, trained in killed(command, env, root.with_suffix(".log"), number, moments, straight):
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


def parts() -> dict[str, Callable[[], Counts]]:
    """Fault → what tries it."""
    found = {f"killed: {TRAINING}": partial(kills, TRAINING)}
    found |= {f"killed: chapter {name}": partial(kills, name) for name in CHAPTERS}
    found |= {fault: partial(tests, *chosen) for fault, chosen in TESTED.items()}
    return found | {f"{FUZZED}: {name}": partial(damaged_files, name) for name in READERS}


def page(record: dict[str, dict], every: Iterable[str]) -> str:
    """`docs/reliability.md`, from the record alone; `every` part that has no record is named."""
    of, days = list(record.values()), sorted({f["finished"][:10] for f in record.values()})
    killed_runs = [found for found in of if TRAINED in found]
    text = PAGE_TEXT.format(
        days=" and ".join(dict.fromkeys((days[0], days[-1]))),
        places="; ".join(sorted({f"{f['hardware']['cpu']}, {f['hardware']['cores']} cores" for f in of})),
        sealed=", ".join(name for name, reader in READERS.items() if reader.sealed),
        tries=sum(found["tries"] for found in of),
        files=sum(found["tries"] for fault, found in record.items() if fault.startswith(FUZZED)),
        lost=sum(found["lost"] for found in of),
        minutes=sum(found["seconds"] for found in of) / 60,
        kills=sum(found["tries"] for found in killed_runs),
        training=sum(found[TRAINED] for found in killed_runs),
    )
    for fault, found in record.items():
        numbers = (found["tries"], found["tries"] - found["lost"], found["lost"], found["seconds"])
        text += f"| {fault} | {' | '.join(f'{number:,}' for number in numbers)} |\n"
    if untried := [fault for fault in every if not record.get(fault, {}).get("tries")]:
        text += f"\n**Not measured yet**, though `make faults` does it: {'; '.join(untried)}.\n"
    return text


def main() -> int:
    """Returns 1 where anything was lost."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="parts with TEXT in their name")
    only, every, lost, writing = parser.parse_args().only, parts(), 0, Lock()

    def tried(fault: str) -> None:
        """Run a part; print and write what it counted."""
        nonlocal lost
        began, counts = time.monotonic(), every[fault]()
        facts = {"tries": counts.tries, "lost": len(counts.lost), "what": counts.lost[:LOST_SHOWN]}
        facts |= {"met": counts.met, TRAINED: counts.training} if counts.met else {}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        facts |= {"seconds": round(time.monotonic() - began), "finished": now}
        with writing:
            lost += len(counts.lost)
            known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}  # now: another command may run beside
            known[fault] = facts | {"git": git_revision(), "hardware": hardware()}
            print(f"{fault}: {counts.tries} tries, {len(counts.lost)} lost", *counts.lost[:3], sep="\n    ", flush=True)
            record = {fault: known[fault] for fault in every if fault in known}
            write_atomically(RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            write_atomically(PAGE, page(record, every))

    chosen = [fault for fault in every if only in fault]
    for fault in chosen:
        if fault.startswith(FUZZED):  # they fork, before there are threads
            tried(fault)
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(tried, (fault for fault in chosen if not fault.startswith(FUZZED))))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
