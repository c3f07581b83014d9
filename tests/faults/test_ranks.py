"""Several processes of one training: one is killed, and it goes on with as many, or with another number of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from archives import until
from small_training import program, same


def start(folder: Path, processes: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--local-addr=localhost"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *program(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def trained(folder: Path, processes: int) -> str:
    process = start(folder, processes)
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_it_goes_on_to_the_same_bytes_and_with_another_number_says_so(roots, before, after):
    process = start(roots / "run", before)  # one of its processes is killed after its first epoch
    until((roots / "run/checkpoint.pt").exists, 200)
    pids = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    subprocess.run(["kill", "-KILL", str(pids[-1])], check=True)
    process.communicate(timeout=120)
    assert process.returncode != 0 and not (roots / "run/end.pt").exists()
    said, end = trained(roots / "run", after), torch.load(roots / "run/end.pt")
    if before == after:
        trained(roots / "straight", after)
        assert same(end, torch.load(roots / "straight/end.pt"))
    else:
        assert f"processes: {before} → {after}" in said and "epoch 1/" not in said
        assert all(tensor.isfinite().all() for tensor in end.values())
