"""Kills a program again and again with SIGKILL, at random moments, and compares what it leaves in the end."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from small_training import TRAIN

from datasets.catalog import REPO

CHAPTERS = (  # those that train
    "2_classification",
    "3_transfer_learning",
    "4_multitask",
    "5_segmentation",
    "6_localisation",
    "7_chest_xray",
    "9_your_own_scan",
)
TRAINING = "a training of four epochs"
HELPERS = str(Path(__file__).parent)
KEPT = ("model.safetensors", "predictions.csv.gz", "validation.csv.gz", "history.csv", "end.pt")
PATIENCE = 1500  # seconds for one uninterrupted run on a loaded machine


def chapter(name: str, root: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a chapter in quick mode on the phantom, or of `TRAINING`; its output lies
    below `root`."""
    if name == TRAINING:
        folder = root / "run"
        return [sys.executable, "-c", TRAIN.format(helpers=HELPERS, folder=str(folder))], dict(os.environ)
    command = [sys.executable, "-m", "utils.headless", str(REPO / f"notebooks/{name}.ipynb")]
    return command, os.environ | {"BRAIN_MRI_OUTPUT": str(root)}


def killed(command: list[str], env: dict[str, str], log: Path, kills: int, seed: int) -> Iterator[int]:
    """Run `command` until it ends well, killed up to `kills` times before; yields the number of each kill.

    Each life lasts until a random number of new lines is in its log, and a random moment longer, so that kills fall
    into training, writing and everything between.

    Raises:
        RuntimeError: it failed by itself; the log says why.
    """
    moments = random.Random(seed)
    done = 0
    while True:
        with log.open("ab") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=REPO, start_new_session=True)
        if done < kills:
            lines, longer = (14, 2) if "ipynb" in command[-1] else (2, 0.5)
            _wait_for_lines(process, log, moments.randint(1, lines))
            time.sleep(moments.random() * longer)
        else:
            process.wait(PATIENCE)
        if process.poll() is None:
            for pid in _family(process.pid):
                _kill(pid)
            process.wait(60)
            done += 1
            yield done
        elif process.returncode == 0:
            return
        else:
            raise RuntimeError(f"ended with {process.returncode}: {log.read_text()[-400:]!r}")


def _wait_for_lines(process: subprocess.Popen, log: Path, more: int) -> None:
    before, end = log.read_bytes().count(b"\n"), time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end and log.read_bytes().count(b"\n") < before + more:
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
