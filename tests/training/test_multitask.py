"""Multi-task training: resumed to the same bytes, the balance included, and shared by two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from multitask_images import run_fit

from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from utils.training.data import make_loader

HELPERS = str(Path(__file__).parents[1] / "helpers")
INTERRUPTED = """
import os, sys, torch
torch.set_num_threads({threads})  # sums of other parts end in other digits
sys.path.insert(0, {helpers!r})
from utils.training import checkpoint
from multitask_images import run_fit
saved = checkpoint.Checkpoint.save
def save_and_die(self, *state):
    saved(self, *state)
    os.kill(os.getpid(), 9)
checkpoint.Checkpoint.save = save_and_die
run_fit({folder!r}, {balance!r})
"""


@pytest.mark.parametrize("balance", ["ema", "kendall"])
def test_killed_and_resumed_it_ends_with_the_same_bytes_the_balance_included(roots, balance, tmp_path):
    folder = tmp_path / "killed"
    values = {"helpers": HELPERS, "threads": torch.get_num_threads()}
    script = INTERRUPTED.format(folder=str(folder), balance=balance, **values)
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == -9
    kept = torch.load(folder / "checkpoint.pt")
    name = {"ema": "balance.averages", "kendall": "balance.log_variances"}[balance]
    assert len(kept["history"]) == 1 and name in kept["task"]
    resumed, straight = run_fit(folder, balance), run_fit(tmp_path / "straight", balance)
    for a, b in zip(resumed[:2], straight[:2], strict=True):
        assert a.state_dict().keys() == b.state_dict().keys() and len(a.state_dict())
        assert all(torch.equal(a.state_dict()[k], b.state_dict()[k]) for k in a.state_dict())
    columns = [c for c in straight[2].history if c != "seconds"]
    pd.testing.assert_frame_equal(resumed[2].history[columns], straight[2].history[columns], check_exact=True)
    first = torch.tensor([4e-4, 1.0]) if balance == "ema" else torch.zeros(2)
    assert not torch.equal(straight[1].state_dict()[name], first), "the balance was at work"
    assert not straight[1].training, "whoever asks for a loss after training leaves no trace in the balance"


TWO = """
import os, sys, torch
sys.path.insert(0, {helpers!r})
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from multitask_images import run_fit
from utils.training.data import make_loader
from utils.training.loop import make_accelerator
left = {{}}
for balance in ("ema", "kendall"):
    model, task, trained = run_fit({folder!r} + "/" + balance, balance, epochs=2)
    left[balance] = {{"model": model.state_dict(), "task": task.state_dict()}}
data = ImageDataset("phantom", make_split("phantom").train[:16], image_size=32)
loader = make_accelerator(seed=0).prepare(make_loader(data, 4, training=True, sampling="balanced"))
left["rows"] = []
for epoch in (0, 1):
    loader.set_epoch(epoch)
    left["rows"].append([batch["row"].tolist() for batch in loader])
torch.save(left, {folder!r} + "/" + os.environ["RANK"] + ".pt")
"""


@pytest.mark.slow
def test_two_processes_share_one_balance_and_one_draw(roots, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO.format(helpers=HELPERS, folder=str(tmp_path)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run([*torchrun, str(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for balance in ("ema", "kendall"):
        a, b = one[balance], two[balance]
        assert all(torch.equal(a["task"][k], b["task"][k]) for k in a["task"])
        assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"] if "running" not in k)
    data = ImageDataset("phantom", make_split("phantom").train[:16], image_size=32)
    alone = make_loader(data, 4, training=True, sampling="balanced")
    for epoch in (0, 1):
        alone.sampler.set_epoch(epoch)
        drawn = [batch["row"].tolist() for batch in alone]
        assert drawn == [a + b for a, b in zip(one["rows"][epoch], two["rows"][epoch], strict=True)]
