"""The loop: killed and resumed to the same bytes, stopped cleanly, and clear about what went wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_training import TRAIN, run_fit, same

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils.training import data as reading
from utils.training import loop
from utils.training.loop import TrainingDiverged
from utils.training.resume import TrainingPaused
from utils.training.tasks import Classification

HELPERS = str(Path(__file__).parents[1] / "helpers")


def test_killed_at_any_moment_it_ends_with_the_same_bytes(roots):
    straight, killed = roots / "straight", roots / "killed"
    straight.mkdir(), killed.mkdir()
    script = {f: TRAIN.format(helpers=HELPERS, folder=str(f)) for f in (straight, killed)}
    subprocess.run([sys.executable, "-c", script[straight]], check=True)
    for wait in (0.0, 0.15):  # SIGKILL right after the first checkpoint, then in the middle of an epoch
        process = subprocess.Popen([sys.executable, "-c", script[killed]], stdout=subprocess.PIPE, text=True)
        assert "epoch" in process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (killed / "end.pt").exists(), "it was to be killed before its end"
    subprocess.run([sys.executable, "-c", script[killed]], check=True)
    assert (straight / "end.pt").read_bytes() == (killed / "end.pt").read_bytes()


@pytest.mark.parametrize("wish", ["file in the folder", "named file", "budget"])
def test_it_stops_after_the_epoch_and_resumes(roots, monkeypatch, wish):
    budget = {}
    if wish == "file in the folder":
        (roots / "run").mkdir()
        (roots / "run/STOP").touch()
    elif wish == "named file":
        (roots / "stop").touch()
        monkeypatch.setenv("BRAIN_MRI_STOP", str(roots / "stop"))
    else:
        budget = {"time_budget": 1e-3}
    with pytest.raises(TrainingPaused, match="after epoch 1 of 2"):
        run_fit(roots / "run", **budget)
    monkeypatch.delenv("BRAIN_MRI_STOP", raising=False)
    model, trained = run_fit(roots / "run")
    assert list(trained.history.epoch) == [1, 2]
    assert same(model.state_dict(), run_fit(roots / "whole")[0].state_dict())


def test_a_finished_run_is_not_trained_again(roots):
    first, trained = run_fit(roots / "run")
    again, second = run_fit(roots / "run")
    assert same(first.state_dict(), again.state_dict())
    assert trained.history.equals(second.history)


def test_nan_stops_it_and_keeps_the_last_good_epoch(roots):
    with pytest.raises(TrainingDiverged, match="loss is nan at rate 1e"):
        run_fit(roots / "run", epochs=3, lr=1e30)


def test_other_settings_do_not_resume(roots):
    run_fit(roots / "run")
    with pytest.raises(DataError, match=r"lr: 0\.0001 → 0\.001"):
        run_fit(roots / "run", lr=1e-3)


def test_a_broken_checkpoint_is_named(roots):
    (roots / "run").mkdir()
    (roots / "run/checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"checkpoint.pt: not a readable checkpoint"):
        run_fit(roots / "run")


def test_best_keeps_the_epoch_of_highest_validation_accuracy(roots):
    _, trained = run_fit(roots / "run", epochs=4, select="best", lr=1e-3)
    assert trained.epoch == trained.history.val_accuracy.idxmax() + 1


def test_seed_decides_order_and_weights(roots):
    one, same_seed, other = (run_fit(roots / str(i), epochs=1, seed=s)[0].state_dict() for i, s in enumerate((3, 3, 4)))
    assert same(one, same_seed)
    assert not same(one, other)


@pytest.mark.parametrize("seed", [42_949, 20_240_101, 2**32 - 1])
def test_every_seed_that_numpy_takes_has_seeds_for_its_epochs(seed):
    drawn = [reading.epoch_seed(seed, epoch) for epoch in range(3)]
    assert len(set(drawn)) == 3 and all(0 <= one < 2**32 for one in drawn)
    assert reading.epoch_seed(2, 5) == 200_011, "those of committed runs stay"


def test_validation_counts_each_image_once(roots):
    split = make_split("phantom", "patient")
    data = ImageDataset("phantom", split.train[:13], image_size=64)
    model, task, accelerator = CustomCNN(image_size=64), Classification(4), loop.make_accelerator()
    model, loader = accelerator.prepare(model, reading.make_loader(data, 4))
    by_batch = loop.validate(model, task, loader, accelerator)
    whole = data.batch(range(13))
    with torch.no_grad():
        logits = model.eval()(task.inputs(whole))
    assert by_batch["val_accuracy"] == pytest.approx((logits.argmax(1) == whole["label"]).float().mean().item())
    assert by_batch["val_loss"] == pytest.approx(task.loss(logits, whole["label"]).item(), rel=1e-4)


def test_two_processes_end_with_one_model(roots, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys, torch\n"
        f"sys.path.insert(0, {HELPERS!r})\n"
        "from small_training import run_fit\n"
        f"model, trained = run_fit({str(tmp_path / 'two')!r}, epochs=1)\n"
        "left = {'world': torch.distributed.get_world_size(), 'model': model.state_dict(),\n"
        "        'loss': trained.history[['train_loss', 'val_loss']].to_numpy().tolist()}\n"
        f"torch.save(left, {str(tmp_path)!r} + f'/rank{{os.environ[\"RANK\"]}}.pt')\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run([*torchrun, str(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert one["world"] == two["world"] == 2
    assert one["loss"] == two["loss"], "both see the mean over all images"
    # Batch-norm statistics are each process's own until the next forward; the first process's are the saved ones.
    learned = [k for k in one["model"] if "running" not in k]
    assert all(torch.equal(one["model"][k], two["model"][k]) for k in learned)
