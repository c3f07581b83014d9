"""Kills a program again and again with SIGKILL, at random moments, and compares what it leaves in the end."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from small_training import program

from datasets.catalog import REPO

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"), key=lambda path: int(path.stem.split("_")[0]))
CHAPTERS = [path.stem for path in NOTEBOOKS if "trained = fit(" in path.read_text()]
TRAINING = "a training of four epochs"
KEPT = ("model.safetensors", "predictions.csv.gz", "validation.csv.gz", "history.csv", "end.pt")
PATIENCE = 1500  # seconds for one uninterrupted run on a loaded machine


def chapter(name: str, root: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a chapter in quick mode on the phantom, or of `TRAINING`; its output lies
    below `root`."""
    if name == TRAINING:
        return [sys.executable, *program(root / "run")], dict(os.environ)
    command = [sys.executable, "-m", "utils.headless", str(REPO / f"notebooks/{name}.ipynb")]
    return command, os.environ | {"BRAIN_MRI_OUTPUT": str(root)}


def killed(
    command: list[str], env: dict[str, str], log: Path, kills: int, moments: random.Random, straight: Path | None = None
) -> Iterator[tuple[str, bool]]:
    """Run `command` until it ends well, killed up to `kills` times before; yields for each kill the last line
    before it, and whether that life was seen to train.

    Each life lasts until a random number of lines is in `log`, and a random moment longer. `straight` is the log of an
    uninterrupted run: two of three lives last until training has begun, and any moment up to the end.

    Raises:
        RuntimeError: it failed by itself; the log says why.
    """
    done = 0
    while True:
        begun = len(_lines(log))
        with log.open("ab") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=REPO, start_new_session=True)
        if done < kills:
            _wait_for_lines(process, log, begun + _life(_lines(straight), moments))
            time.sleep(moments.random() * (2 if "ipynb" in command[-1] else 0.5))
        else:
            process.wait(PATIENCE)
        if process.poll() is None:
            for pid in _family(process.pid):
                _kill(pid)
            process.wait(60)
            done += 1
            lived = _lines(log)[begun:]
            yield (lived or ["nothing"])[-1], any(map(in_training, lived))
        elif process.returncode == 0:
            return
        else:
            raise RuntimeError(f"ended with {process.returncode}: {log.read_text()[-400:]!r}")


def _lines(log: Path | None) -> list[str]:
    return log.read_text(errors="replace").splitlines() if log and log.exists() else []


def _life(straight: list[str], moments: random.Random) -> int:
    """After how many lines a life ends."""
    before = next((i for i, line in enumerate(straight) if in_training(line)), 1)
    if moments.random() < 2 / 3:
        return moments.randint(before, max(before, len(straight) - 1))
    return moments.randint(min(1, before), before)


def in_training(line: str) -> bool:
    """Whether a line is of an epoch: a kill then meets a run that has a checkpoint."""
    return re.match(r"(\S+ )?epoch \d+/\d+ ", line) is not None


def _wait_for_lines(process: subprocess.Popen, log: Path, lines: int) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end and len(_lines(log)) < lines:
        time.sleep(0.05)


def _family(pid: int) -> list[int]:
    """A process and all its descendants: a notebook's kernel is in a session of its own."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def left(root: Path) -> dict[str, object]:
    """What a run leaves that must not depend on kills: weights and predictions byte by byte, histories but for time."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        if path.name in KEPT:
            name = str(path.relative_to(root))
            found[name] = _content(path)
    return found


def _content(path: Path) -> object:
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv(index=False)
    if path.suffix == ".pt":  # its zip holds no more than the weights
        return {name: weights.numpy().tobytes() for name, weights in torch.load(path).items()}
    return path.read_bytes()


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Names of what is not alike, or in one of the two alone."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
