"""One process trains a run: a lock in the run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from datasets.catalog import DataError
from datasets.lock import Held, acquire

PATIENCE = 15.0  # seconds: the kernel of a notebook outlives a job that was killed by some of them


@contextmanager
def held(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold `run.lock` in `folder`, and free it of what a killed process was writing.

    Of several processes of one training the main one holds it.

    Raises:
        DataError: another process trains this run; the line names it, on all processes.
    """
    lock, problem = None, [""]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire(folder / "run.lock", "trains this run", PATIENCE)
        except Held as who:
            problem = [f"{folder}: {who}. Wait for it or stop it; another run has another seed or $BRAIN_MRI_OUTPUT."]
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
