"""SLURM's commands, and a submitted job to wait for."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.catalog import REPO

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def slurm(*command: object) -> str:
    """Output of a SLURM command, or `FileNotFoundError`/`CalledProcessError` where it cannot be run."""
    words = list(map(str, command))
    return subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=300, check=True).stdout


class Job:
    """A submitted job: its state, its log, and the one way to wait."""

    def __init__(self, number: str, log: Path) -> None:
        self.number, self.log = number, log

    def field(self, name: str) -> str:
        return re.search(rf"\b{name}=(\S+)", slurm("scontrol", "show", "job", "--oneliner", self.number))[1]

    def until(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            state = self.field("JobState")
            if (state in ENDED and not condition()) or time.monotonic() > deadline:
                pytest.fail(f"job {self.number} is {state}; its log:\n{self.text()}")
            time.sleep(0.3)

    def end(self, seconds: float = 600) -> str:
        """Wait for the end; returns the state."""
        self.until(lambda: self.field("JobState") in ENDED, seconds)
        return self.field("JobState")

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""
