"""Several processes of one training: one is killed, and it goes on with as many, or with another number of them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
import torch
from archives import until
from small_training import run_fit, same

from utils.training.resume import TrainingPaused

LOOP = """
import runpy, sys
file, *folders = sys.argv[1:]
for folder in folders:
    sys.argv[1:] = [folder, "4"]
    runpy.run_path(file, run_name="__main__")
"""


def start(*folders: Path) -> subprocess.Popen:
    """Two processes that train in one folder after the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--local-addr=localhost"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--no-python", sys.executable, "-c", LOOP]
    command += [small_training.__file__, *map(str, folders)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_it_goes_on_to_the_same_bytes_and_with_another_number_says_so(roots, capsys):
    two, fewer, one, straight = (roots / name for name in ("two", "fewer", "one", "straight"))
    process = start(two)  # one of its processes is killed after its first epoch
    until((two / "checkpoint.pt").exists, 200)
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(pids[-1]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0 and not (two / "end.pt").exists()
    shutil.copytree(two, fewer)
    with pytest.raises(TrainingPaused):  # after its first epoch
        run_fit(one, epochs=4, time_budget=0)
    capsys.readouterr()
    with pytest.warns(UserWarning, match="processes: 2 → 1"):
        found, _ = run_fit(fewer, epochs=4)
    assert "epoch 1/" not in "".join(capsys.readouterr())
    process = start(two, one, straight)
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    assert "processes: 1 → 2" in said and said.count("epoch 1/") == 1, "by the straight one"
    ends = [torch.load(folder / "end.pt") for folder in (two, one, straight)]
    assert same(ends[0], ends[2])
    assert all(tensor.isfinite().all() for end in (ends[1], found.state_dict()) for tensor in end.values())
