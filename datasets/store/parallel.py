"""Runs a job on all cores and yields the results in order.

Written by hand, since joblib's workers stay behind when their parent is killed while they start (2 of 8 tries of
`test_an_interrupted_run_is_taken_up_after_its_finished_unpacking`), and it does not bound the results that wait.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import cv2

from datasets.catalog import DataError


def cores() -> int:
    """Number of cores that this process may use (a cluster job may use fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_here() -> int:
    """Number of processes of this training on this node, as torchrun says; they share its cores and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def in_order(job: Callable, batches: Sequence, workers: int, ahead: int = 4) -> Iterator:
    """Yield `job(batch)` for each of `batches` in order, from `workers` processes, `ahead` results waiting for each."""
    if workers == 1:
        yield from map(job, batches)
        return
    waiting: deque = deque()
    with _interrupt_later() as next_result:
        pool = _pool(workers)
        try:
            for batch in batches:
                waiting.append(pool.submit(job, batch))
                if len(waiting) > ahead * workers:
                    yield next_result(waiting)
            while waiting:
                yield next_result(waiting)
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed (out of memory?); run again with --workers 1") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the workers inherit it: Ctrl-C is the parent's
    try:
        for _ in range(workers):  # each task starts one worker while none is idle
            pool.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pool


@contextmanager
def _interrupt_later() -> Iterator[Callable[[deque], Any]]:
    """Ctrl-C ends the work between two results: elsewhere a library may swallow it, or die half-started of it."""
    pressed: list[int] = []

    def next_result(waiting: deque) -> Any:
        result = waiting.popleft().result()
        if pressed:
            raise KeyboardInterrupt
        return result

    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield next_result
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes already fill the cores
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
