"""Locks: one process makes a data set, trains a run or works down a row. The system lifts them when a holder dies."""

import errno
import os
import platform
import warnings
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Held(Exception):
    """Another process holds the lock; the text says which and what it does with it."""


def acquire(path: Path, does: str, patience: float = 0) -> FileLock:
    """Take the lock file `path` for one that `does` something; `release()` of what is returned gives it back.

    It is a lock of the kernel (`flock`): where the holder is killed, nothing is left to be removed. It holds between
    nodes where the shared disk carries locks (NFS, GPFS, Lustre mounted with `flock`); a warning says where it has
    none.  Raises `Held` where another process holds it for longer than `patience` seconds.
    """

    def sign(descriptor: int) -> None:
        job = os.environ.get("SLURM_JOB_ID")
        stop = f"scancel {job}" if job else f"kill {os.getpid()}"
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        who = f"process {os.getpid()} on {platform.node()} {does} since {since} (to stop it: {stop})"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, who.encode(), 0)

    lock = FileLock(path, timeout=patience, fallback_to_soft=False, on_acquired=sign)
    try:
        lock.acquire()
    except Timeout:
        raise Held(path.read_text(encoding="utf-8") or "another process") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        text = f"{path}: this disk knows no locks ({error.strerror}). Check that no other process {does}."
        warnings.warn(text, stacklevel=2)
    return lock
