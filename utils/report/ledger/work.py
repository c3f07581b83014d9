"""Works down rows of the ledger, several at once, each in a process of its own that pauses, goes on, and stops."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from datasets.catalog import REPO
from datasets.lock import Held, acquire
from datasets.store.packing import cores
from utils.report.ledger.rows import Row, file_name
from utils.report.ledger.states import DONE, forget_finished, state_of, weights_of
from utils.run import output_root

WENT_WELL, FAILED, GOES_ON, STOPPED = 0, 1, os.EX_TEMPFAIL, 130  # as `utils.headless` has them
NONE_STARTED = 3
STOP = "BRAIN_MRI_STOP"
MINUTE, POLL, PATIENCE = 60.0, 0.2, 60.0  # seconds: the shortest that is started for, between looks, until a kill
# glibc would give every large feature map back to the system: on a CPU an epoch of a U-Net takes 1.7 times as long.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass
class Job:
    """A row that runs. Its lock keeps other ledgers on this disk away from it, and falls with the process."""

    row: Row
    process: subprocess.Popen
    log: Path
    lock: FileLock
    started: float


def work(
    rows: Sequence[Row], *, workers: int = 1, minutes: float | None = None, say: Callable[[str], None] = print
) -> int:
    """Run `rows`, in their order, `workers` at once; a line each when it ends.

    Args:
        minutes: after these no row is started, and those that train end with their epoch; None: no limit. A row is
            started only where a minute is left. Probes have no epochs, so the last ones may end later.
        say: receives the lines.

    Returns:
        0: all went well. 1: a row failed; its log is named, the others went on. 75: the time is over, or a STOP file is
        there, and the same again goes on. 3: so it was before any row was started, and would be again. 130: stopped by
        Ctrl-C or SIGTERM; trainings keep their last whole epoch.
    """
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    waiting, running, codes = list(rows), [], []
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or running:
            while waiting and len(running) < workers and _may_start(ends):
                job = _start(waiting.pop(0), workers, ends, say)
                running += [job] if job else []
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                codes.append(_ended(job, say))
            if not running and not _may_start(ends):
                break
            time.sleep(POLL)
    except KeyboardInterrupt:
        _stop(running, say)
        return STOPPED
    except BaseException:  # those that run in sessions of their own would go on, and a next ledger start them twice
        _stop(running, say)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    if waiting and not codes:
        say(f"no row was started, rows that wait: {len(waiting)}; no minute was left, or a STOP file was there")
        return NONE_STARTED
    if waiting:
        say(f"time is over, rows that wait: {len(waiting)}; the same command goes on")
        codes.append(GOES_ON)
    return next((code for code in (FAILED, GOES_ON) if code in codes), WENT_WELL)


def _may_start(ends: float | None) -> bool:
    stop = os.environ.get(STOP)
    return (ends is None or ends - time.monotonic() >= MINUTE) and not (stop and Path(stop).exists())


def _start(row: Row, workers: int, ends: float | None, say: Callable[[str], None]) -> Job | None:
    folder = output_root() / "runs/ledger"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = acquire(folder / f"{file_name(row.name)}.lock", "runs this row")
    except Held as who:
        say(f"{row.name}: left out, {who}")
        return None
    if state_of(row) == DONE:  # by another ledger, since this one began
        lock.release()
        return None
    forget_finished(row)
    left = 0 if ends is None else int((ends - time.monotonic()) // 60)
    command = [sys.executable, *row.command(weights_of(row["model"]) if row["pretrained"] else "", left)]
    log = folder / f"{file_name(row.name)}.log"
    environment = MALLOC | os.environ | {"OMP_NUM_THREADS": str(max(1, cores() // workers))}
    with log.open("a") as file:
        # A session of its own: Ctrl-C reaches this process alone, which ends the others in order.
        process = subprocess.Popen(
            command,
            cwd=REPO,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return Job(row, process, log, lock, time.monotonic())


def _ended(job: Job, say: Callable[[str], None]) -> int:
    job.lock.release()
    took, code = f"{(time.monotonic() - job.started) / 60:.1f} min", job.process.returncode
    if code == GOES_ON:
        say(f"{job.row.name}: paused after {took}, goes on next time")
        return GOES_ON
    if code == 0 and state_of(job.row) == DONE:
        say(f"{job.row.name}: done in {took}")
        return WENT_WELL
    why = f"exit code {code}" if code else "it ended well and left no record of what was asked"
    say(f"{job.row.name}: FAILED after {took} ({why}); its log: {job.log}")
    return FAILED


def _stop(running: Sequence[Job], say: Callable[[str], None]) -> None:
    """End what runs: SIGTERM, which `headless` answers, and after a while SIGKILL to all that is left of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must leave no process behind
    try:
        for job in running:
            job.process.terminate()
        ends = time.monotonic() + PATIENCE
        for job in running:
            try:
                job.process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()
            job.lock.release()
            say(f"{job.row.name}: stopped; goes on from its last whole epoch; its log: {job.log}")
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
