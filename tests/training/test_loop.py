"""The loop: what it keeps and refuses, parts of a batch, and several processes of one training."""

import contextlib
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from small_training import run_fit, same
from torch import nn

from datasets.catalog import DataError
from datasets.lock import acquire
from datasets.splitting import make_split
from datasets.store import images
from datasets.store.images import ImageDataset
from datasets.store.index import require
from models import CustomCNN
from utils.recipes import get_recipe
from utils.training import data as reading
from utils.training import loop, resume
from utils.training.data import BalancedSampler, make_loader
from utils.training.loop import TrainingDiverged, make_accelerator, require_equal_shares
from utils.training.tasks import Classification

HELPERS = str(Path(__file__).parents[1] / "helpers")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


def test_best_keeps_the_epoch_of_highest_validation_accuracy(roots):
    _, trained = run_fit(roots / "run", epochs=4, select="best", lr=1e-3)
    assert trained.epoch == trained.history.val_accuracy.idxmax() + 1
    _, trained = run_fit(roots / "other", epochs=4, select="least loss", lr=1e-3)
    assert trained.epoch == trained.history.val_loss.idxmin() + 1


def test_the_seed_decides_what_a_training_draws(roots):
    one, other = CustomCNN(image_size=64), CustomCNN(image_size=64)
    other.load_state_dict(one.state_dict())
    ends = [run_fit(roots / f"{n}", epochs=1, seed=n, model=net)[0].state_dict() for n, net in ((3, one), (4, other))]
    assert not same(*ends)


class Kept(GeneralTracker):
    """A tracker in place of TensorBoard's, which need not be installed: keeps what `fit` logs."""

    name, requires_logging_directory, tracker = "kept", False, None

    def __init__(self):
        self.rows = []

    def log(self, values, step):
        self.rows.append(values | {"epoch": step})


def test_every_row_of_the_history_is_logged_for_a_tracker(roots):
    kept = Kept()
    _, trained = run_fit(roots / "run", accelerator=Accelerator(cpu=True, log_with=kept))
    assert kept.rows == trained.history.to_dict("records")


def test_without_tensorboard_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setenv("BRAIN_MRI_TENSORBOARD", "board")
    monkeypatch.setattr(loop, "is_tensorboard_available", lambda: False)
    with pytest.raises(DataError, match="pip install tensorboard"):
        make_accelerator()


@pytest.mark.parametrize("seed", [42_949, 20_240_101, 2**32 - 1])
def test_every_seed_that_numpy_takes_has_seeds_for_its_epochs(seed):
    drawn = [reading.epoch_seed(seed, epoch) for epoch in range(3)]
    assert len(set(drawn)) == 3 and all(0 <= one < 2**32 for one in drawn)
    assert reading.epoch_seed(2, 5) == 200_011, "those of committed runs stay"


def test_validation_counts_each_image_once(roots):
    split = make_split("phantom", "patient")
    data = ImageDataset("phantom", split.train[:13], image_size=64)
    model, task, accelerator = CustomCNN(image_size=64), Classification(4), make_accelerator()
    model, loader = accelerator.prepare(model, make_loader(data, 4))
    by_batch = loop.validate(model, task, loader, accelerator, "epoch 1/1")
    whole = data.batch(range(13))
    with torch.no_grad():
        logits = model.eval()(task.inputs(whole))
    assert by_batch["val_accuracy"] == pytest.approx((logits.argmax(1) == whole["label"]).float().mean().item())
    assert by_batch["val_loss"] == pytest.approx(task.loss(logits, whole["label"]).item(), rel=1e-4)


def test_nan_in_training_stops_it(roots):
    with pytest.raises(TrainingDiverged, match="loss is nan at rate 1e"):
        run_fit(roots / "run", epochs=3, lr=1e30)


class Poisoned(CustomCNN):
    """Is poisoned in the validation of its second epoch of four batches: its outputs, or a tensor that none shows."""

    def __init__(self, where: str):
        super().__init__(image_size=64)
        self.where, self.trained = where, 0
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out = super().forward(x) + 0 * self.spare
        self.trained += self.training
        if not self.training and self.trained >= 8:
            bad = {"spare": self.spare.data, "running_var": self.features[0][1].running_var, "outputs": out}
            bad[self.where].view(-1)[0] = float("inf")
        return out


WHAT = {"outputs": "the validation loss is (nan|inf)"}
WHAT |= {name: rf"weights are not finite, .*{name} first" for name in ("running_var", "spare")}


@pytest.mark.parametrize("where", WHAT)
def test_an_epoch_with_nan_is_never_saved(roots, where):
    with pytest.raises(TrainingDiverged, match=rf"epoch 2/2: {WHAT[where]}"):
        run_fit(roots / "run", model=Poisoned(where))
    assert len(torch.load(roots / "run/checkpoint.pt")["history"]) == 1, "a restart begins from the last good epoch"


TWO = """
import os, sys, torch
sys.path.insert(0, {helpers!r})
from small_training import run_multitask
from utils.training.loop import make_accelerator
left = {{"world": make_accelerator().num_processes}}
for balance in ("ema", "kendall"):
    model, task, trained = run_multitask({folder!r} + "/" + balance, balance, epochs=2)
    losses = trained.history[["train_loss", "val_loss"]].to_numpy().tolist()
    left[balance] = {{"model": model.state_dict(), "task": task.state_dict(), "losses": losses}}
torch.save(left, {folder!r} + "/" + os.environ["RANK"] + ".pt")
"""


def test_two_processes_end_with_one_model_and_share_one_balance(roots, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO.format(helpers=HELPERS, folder=str(tmp_path)))
    subprocess.run([*TORCHRUN, str(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert one["world"] == two["world"] == 2
    for balance in ("ema", "kendall"):
        a, b = one[balance], two[balance]
        assert same(a["task"], b["task"]) and a["losses"] == b["losses"], "both see the mean over all images"
        # batch-norm statistics are each process's own until the next forward; the first process's are the saved ones
        assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"] if "running" not in k)


FAULTS = """
import resource, torch
from utils.training.environment import keep_freed_memory
for keep in (lambda: None, keep_freed_memory):
    keep()
    before = [torch.ones(2**24) for _ in range(3)] and resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(2**24)  # 64 MiB
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """Counted in pages that the system had to clear, in a process of its own. A freed piece may be a few bytes too
    short for the next tensor, so some more are asked for before all are used again."""
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True)
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 4


@pytest.mark.parametrize(("gain", "precision"), [(float("inf"), "bf16"), (0.0, "no")])
def test_auto_is_the_faster_precision_and_its_trial_draws_nothing(gain, precision, monkeypatch):
    monkeypatch.setattr(loop, "GAIN", gain)
    state = torch.get_rng_state()
    try:
        AcceleratorState._reset_state()
        assert make_accelerator("auto").mixed_precision == precision
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        AcceleratorState._reset_state()


def test_every_class_is_drawn_equally_often_and_an_epoch_draws_the_same_again(roots):
    def drawn(seed, epoch):
        sampler = BalancedSampler(labels, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    labels = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)
    rows = drawn(1, 3)
    assert len(rows) == 1000
    assert np.bincount(labels[rows], minlength=4) / 1000 == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.05)
    assert rows == drawn(1, 3) and drawn(1, 4) != rows != drawn(2, 3)
    data = ImageDataset("phantom", make_split("phantom").val, image_size=32)
    assert isinstance(make_loader(data, 8, training=True, sampling="balanced").sampler, BalancedSampler)
    asked = [r for b in make_loader(data, 8, sampling="balanced") for r in b["row"].tolist()]
    assert asked == data.rows.tolist(), "only training is balanced"


def test_memory_and_workers_are_shared_by_the_processes_of_a_node(roots, monkeypatch):
    rows = np.arange(32)
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 3 * len(rows) * 64**2)  # holds three copies
    monkeypatch.setattr(reading, "cores", lambda: 8)
    found = {}
    for processes in ("", "3", "4", "16"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        data = ImageDataset("phantom", rows, image_size=64)
        found[processes] = data.in_memory, make_loader(data, 8).num_workers
    assert found == {"": (True, 0), "3": (True, 0), "4": (False, 2), "16": (False, 1)}


def joined(rank: int, world: int, port: int) -> None:
    """What torchrun tells a process, for one that was forked."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    AcceleratorState._reset_state(reset_partial_state=True)


def together(work, world: int, *what: object) -> list:
    """What `world` processes answer that do `work` at the same time."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with multiprocessing.get_context("fork").Pool(world) as pool:  # nothing has to be imported again
        return pool.starmap_async(work, [(rank, world, port, *what) for rank in range(world)], 1).get(60)


def refused(rank: int, world: int, port: int, folder: str) -> str:
    """Why one process among `world` cannot begin a training with a batch of 8."""
    joined(rank, world, port)
    with pytest.raises(DataError) as error:
        run_fit(folder, batch_size=8)
    return str(error.value)


def test_a_batch_that_cannot_be_shared_alike_is_refused_by_all_processes(roots):
    assert all("a batch of 8 images cannot be shared" in said for said in together(refused, 3, str(roots / "run")))


def test_a_held_lock_ends_all_processes_with_the_same_line(roots, monkeypatch):
    monkeypatch.setattr(resume, "PATIENCE", 0.5)
    (roots / "run").mkdir()
    held = acquire(roots / "run/run.lock", "trains this run")
    one, two = together(refused, 2, str(roots / "run"))
    held.release()
    assert one == two and f"{roots / 'run'}: process {os.getpid()} on" in one


@pytest.mark.parametrize(
    ("layer", "processes", "able"),
    [(nn.Identity(), 3, "1 or 2 or 4 or 8"), (nn.BatchNorm1d(1), 8, "1 or 2 or 4"), (nn.BatchNorm1d(1), 4, "")],
)
def test_it_says_how_many_processes_can_share_a_batch(layer, processes, able):
    """A batch norm over single vectors needs two images in every share."""
    stages = [get_recipe("s2", "CustomCNN", batch_size=8)]
    said = pytest.raises(DataError, match=rf"8 images .* {processes} processes alike: start {able} of them")
    with said if able else contextlib.nullcontext():
        require_equal_shares(layer, stages, processes)


def read_epochs(rank: int, world: int, port: int, number: int, sampling: str) -> list:
    """One process among `world`: batches of two epochs, by row, and the bytes that each epoch took from the disk."""
    joined(rank, world, port)
    reading.MOST_WORKERS = 0  # so that this process reads by itself
    data = ImageDataset("phantom", np.arange(number), image_size=32, channels="all", masks=True, in_memory=False)
    loader = make_loader(data, 8, training=bool(sampling), sampling=sampling, seed=3)
    loader, found = make_accelerator(seed=3).prepare(loader), []
    data.batch([0])  # opens the file
    for epoch in range(2):
        loader.set_epoch(epoch)
        before = Path("/proc/self/io").read_text()
        rows = [batch["row"].tolist() for batch in loader]
        found.append((rows, int(Path("/proc/self/io").read_text().split()[1]) - int(before.split()[1])))
    return found


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="bytes are counted by Linux")
@pytest.mark.parametrize(("sampling", "number", "world"), [("shuffled", 76, 2), ("balanced", 76, 2), ("", 64, 4)])
def test_ranks_read_disjoint_shares_that_make_up_the_epoch(roots, sampling, number, world):
    alone, *ranks = together(read_epochs, 1, number, sampling) + together(read_epochs, world, number, sampling)
    with h5py.File(require("phantom") / "images.h5") as store:
        images, masks, sequences = store["image"].id, store["mask"].id, store["image"].shape[-1]
        sizes = [masks.get_chunk_info(row).size for row in range(number)]
        for chunk in range(number * sequences):
            sizes[chunk // sequences] += images.get_chunk_info(chunk).size
    missing = -number % 8  # the last batch is filled up with images of the first, so that all have as many
    for epoch, (whole, _) in enumerate(alone):
        shares = [rank[epoch][0] for rank in ranks]
        batches = [list(chain(*parts)) for parts in zip(*shares, strict=True)]
        assert batches[:-1] == whole[:-1] and batches[-1] == whole[-1] + whole[0][:missing]
        assert sampling == "balanced" or sorted(chain(*whole)) == list(range(number)), "every image once"
        for rank, share in zip(ranks, shares, strict=True):
            needed = sum(sizes[row] for row in chain(*share))
            assert needed <= rank[epoch][1] < 1.25 * needed, "its own chunks, each once, and HDF5's tables"
    assert not sampling or alone[0][0] != alone[1][0], "each epoch is shuffled anew"
