"""Parts of `make bench`: how long commands and libraries take to start."""

import os
import subprocess
import sys
from collections.abc import Callable

from datasets.catalog import REPO

LIBRARIES = ("torch", "torchmetrics", "timm", "monai")
MODULES = ("datasets.download", "utils.training.loop", "utils.training.tasks", "utils.predict.verdict")
COMMANDS = (
    "datasets.download",
    "datasets.curation",
    "utils.headless",
    "utils.chapters",
    "utils.predict",
    "utils.report.ledger",
    "utils.app",
)


def python(*words: str) -> Callable[[], None]:
    """A process of Python that must end well; its output goes nowhere."""
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, *words]
    return lambda: subprocess.run(command, check=True, cwd=REPO, env=environment, stdout=subprocess.DEVNULL)


def imports() -> dict[str, Callable]:
    """Sides: `import NAME` of libraries and of modules of ours."""
    return {name: python("-c", f"import {name}") for name in (*LIBRARIES, *MODULES)}


def helps() -> dict[str, Callable]:
    """Sides: `--help` of commands beside Python alone."""
    return {"python": python("-c", "")} | {name: python("-m", name, "--help") for name in COMMANDS}
