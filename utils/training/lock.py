"""One process trains a run: a lock in the run's folder, which the system itself lifts when its holder dies."""

import errno
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from datasets.catalog import DataError

PATIENCE = 15.0  # seconds: the kernel of a notebook outlives a job that was killed by some of them
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def held(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold `run.lock` in `folder`, and free it of what a killed process was writing.

    Of several processes of one training the main one holds it. It is a lock of the kernel (`flock`): where the holder
    is killed, nothing is left to be removed. It holds between nodes where the shared disk carries locks (NFS, GPFS,
    Lustre mounted with `flock`); a warning says so where it has none.

    Raises:
        DataError: another process trains this run; the line names it, on all processes.
    """
    lock, problem = None, [""]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "run.lock", timeout=PATIENCE, fallback_to_soft=False, on_acquired=_sign)
        problem = [_acquire(lock, folder)]
    try:
        broadcast_object_list(problem)
        if problem[0]:
            raise DataError(problem[0])
        if lock:
            for left in folder.glob("checkpoint*.tmp"):
                left.unlink(missing_ok=True)
        yield
    finally:
        if lock:
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> str:
    """Take `lock`; returns what stands in the way, or ""."""
    try:
        lock.acquire()
    except Timeout:
        who = Path(lock.lock_file).read_text() or "another process"
        return f"{folder}: {who}. Wait for it or stop it; a run of its own has another seed or $BRAIN_MRI_OUTPUT."
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{lock.lock_file}: this disk knows no locks ({error.strerror}). See that no other job trains this run.",
            stacklevel=2,
        )
    return ""


def _sign(descriptor: int) -> None:
    """Write into the lock's file who holds it."""
    job = os.environ.get("SLURM_JOB_ID")
    stop = f"scancel {job}" if job else f"kill {os.getpid()}"
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    who = f"process {os.getpid()} on {platform.node()} trains this run since {since} (to stop it: {stop})"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, who.encode(), 0)
