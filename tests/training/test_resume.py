"""What is around the epochs: killed and resumed to the same bytes; whose a checkpoint is; damage, locks, disks."""

import contextlib
import errno
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from small_training import program, run_fit, run_multitask, same

from datasets.catalog import DataError
from datasets.generator import phantom
from datasets.lock import acquire
from datasets.splitting import make_split
from datasets.store import images
from datasets.store.images import ImageDataset
from models import CustomCNN
from utils import files
from utils.files import damage, replacing, write_atomically
from utils.report.records import save_run, training_facts
from utils.run import Run
from utils.training import environment, resume
from utils.training.data import load_data
from utils.training.loop import make_accelerator
from utils.training.resume import TrainingPaused
from utils.training.tasks import Classification

DAY = 86_400  # seconds


def train(folder, *, train_rows=slice(0, 24), val_rows=slice(0, 8), size=64, view="stored", **words):
    """One epoch of CustomCNN on the small phantom."""
    split = make_split("phantom", "patient")
    rows, part_of = (split.train[train_rows], split.val[val_rows]), words.pop("part_of", {})
    parts = (ImageDataset("phantom", r, image_size=size, view=view, part_of=part_of) for r in rows)
    torch.manual_seed(0)
    model = words.pop("model", None) or CustomCNN(image_size=size)
    AcceleratorState._reset_state(reset_partial_state=True)  # its precision is the process's, and cannot be changed
    words |= {"accelerator": make_accelerator(words.pop("precision", "no"))}
    return run_fit(folder, epochs=1, model=model, parts=parts, **words)


@pytest.fixture(scope="module")
def made(small_phantom, tmp_path_factory):
    """Trainings that tests read or take up: `one` epoch of `train`, four epochs of `run_fit` without a pause
    (`straight`), and paused after the second (`paused`)."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(small_phantom))
        patch.setenv("BRAIN_MRI_HEADLESS", "1")
        train(folder / "one")
        run_fit(folder / "straight", epochs=4)
        for _ in range(2):
            with pytest.raises(TrainingPaused):
                run_fit(folder / "paused", epochs=4, time_budget=0)
    return folder


@pytest.fixture
def paused(roots, made):
    """A training of four epochs, paused after the second: its folder, with two checkpoints."""
    return shutil.copytree(made / "paused", roots / "run")


def assert_alike(one, other):
    """Two trainings, as `run_fit` and `run_multitask` give them, ended with the same bytes."""
    assert all(same(a.state_dict(), b.state_dict()) for a, b in zip(one[:-1], other[:-1], strict=True))
    columns = [c for c in one[-1].history if c != "seconds"]
    pd.testing.assert_frame_equal(one[-1].history[columns], other[-1].history[columns], check_exact=True)


def test_killed_in_mid_epoch_it_ends_with_the_same_bytes_and_its_lock_holds_nobody_up(roots, made, monkeypatch):
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # the same sums as in this process
    command = [sys.executable, *program(roots / "run")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert "epoch 1/4" in process.stdout.readline()
        time.sleep(0.15)  # in the middle of an epoch
        process.kill()
    assert not (roots / "run/end.pt").exists(), "it was to be killed before its end"
    assert str(process.pid) in (roots / "run/run.lock").read_text(), "it had no time to tidy up"
    (roots / "run/checkpoint.pt.node-77.tmp").write_bytes(b"half")
    monkeypatch.setattr(resume, "PATIENCE", 0)
    assert_alike(run_fit(roots / "run", epochs=4), run_fit(made / "straight", epochs=4))
    assert not list((roots / "run").glob("*.tmp")), "nor does a file that it was writing fill the disk"


@pytest.mark.parametrize(
    ("balance", "name", "first"),
    [("ema", "balance.averages", [4e-4, 1.0]), ("kendall", "balance.log_variances", [0.0, 0.0])],
)
def test_resumed_the_balance_of_losses_is_the_same_bytes_too(roots, tmp_path, balance, name, first):
    with pytest.raises(TrainingPaused):
        run_multitask(tmp_path / "paused", balance, time_budget=0)
    assert name in torch.load(tmp_path / "paused/checkpoint.pt")["task"]
    resumed, straight = (run_multitask(tmp_path / folder, balance) for folder in ("paused", "straight"))
    assert_alike(resumed, straight)
    assert straight[1].state_dict()[name].tolist() != pytest.approx(first), "the balance was at work"
    assert not straight[1].training, "whoever asks for a loss after training leaves no trace in the balance"


@pytest.mark.parametrize("wish", ["file in the folder", "named file", "budget"])
def test_it_stops_after_the_epoch_and_resumes(roots, monkeypatch, wish):
    (roots / "run").mkdir()
    if wish == "file in the folder":
        (roots / "run/STOP").touch()
    if wish == "named file":
        (roots / "stop").touch()
        monkeypatch.setenv("BRAIN_MRI_STOP", str(roots / "stop"))
    with pytest.raises(TrainingPaused, match="after epoch 1/2"):
        run_fit(roots / "run", time_budget=1e-3 if wish == "budget" else None)
    assert not (roots / "run/STOP").exists(), "obeyed once"
    monkeypatch.delenv("BRAIN_MRI_STOP", raising=False)
    model, trained = run_fit(roots / "run")
    assert list(trained.history.epoch) == [1, 2]
    again, found = run_fit(roots / "run", time_budget=0)
    assert same(model.state_dict(), again.state_dict()) and found.history.equals(trained.history), "not trained again"


OTHER = {
    "train rows": ({"train_rows": slice(1, 25)}, r"train rows: \w+ → \w+"),
    "their order": ({"train_rows": slice(23, None, -1)}, r"train rows: \w+ → \w+"),
    "val rows": ({"val_rows": slice(1, 9)}, r"val rows: \w+ → \w+"),
    "size": ({"size": 128}, r"image_size: 64 → 128"),
    "view": ({"view": "levelled"}, r"view: stored → levelled"),
    "run": ({"part_of": {"run": "another"}}, r"run: None → another"),
    "rate": ({"lr": 1e-3}, r"lr: 0\.0001 → 0\.001"),
    "seed": ({"seed": 1}, r"seed: 0 → 1"),
    "precision": ({"precision": "bf16"}, r"precision: no → bf16"),
    "task": ({"task": type("Other", (Classification,), {})(4)}, r"task: Classification → Other"),
    "classes": ({"model": CustomCNN(num_classes=5, image_size=64)}, r"model: CustomCNN of [\d,]+ p.* → CustomCNN"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_checkpoint_is_not_taken_up_by_another_training(roots, made, what):
    words, message = OTHER[what]
    with pytest.raises(DataError, match=rf"checkpoint\.pt: belongs to another training \(.*{message}") as refused:
        train(made / "one", **words)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_is_not_taken_up_for_another_data_set_of_the_same_name(roots, made, tmp_path, monkeypatch):
    _, trained = train(made / "one")
    home, here = tmp_path / "other", os.environ["BRAIN_MRI_DATA"]
    (home / "phantom").mkdir(parents=True)
    phantom.generate(home / "phantom", seed=1, size=64, patients=24, slices=3)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(home))
    with pytest.raises(DataError, match=r"another training (?=.*images\.h5: \w+ → )(?=.*manifest\.csv: \w+ → )"):
        train(made / "one")
    run = Run(dataset="phantom", split="patient")
    with pytest.raises(DataError, match="'phantom' has changed since it was trained on"):
        save_run(run, {}, pd.DataFrame(), fit=trained)
    assert not run.metrics_folder.exists()
    monkeypatch.setenv("BRAIN_MRI_DATA", here)
    assert train(made / "one")[1].history.equals(trained.history), "with the first one back it is its own again"


def test_a_changed_table_of_turns_is_another_training(roots, monkeypatch):
    """The view "upright" depends on a committed table, which neither manifest nor store knows."""
    rows = make_split("phantom", "patient").train
    data = [ImageDataset("phantom", rows, image_size=64, view="upright")]
    monkeypatch.setattr(images, "turns", lambda name, manifest: np.full(len(manifest), "transposed"))
    data.append(ImageDataset("phantom", rows, image_size=64, view="upright"))
    one, other = (each.identity() for each in data)
    assert {name for name in one if one[name] != other[name]} == {"turns"}


def test_one_changed_weight_is_another_start_and_neither_rounding_nor_an_interruption_is(roots, made):
    """A reader stops the cell and runs it again: by then the network has been trained in part."""
    model = CustomCNN(image_size=64)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, trained = train(made / "one", model=model)
    assert train(made / "one", model=model)[1].history.equals(trained.history)
    rounded, other = CustomCNN(image_size=64), CustomCNN(image_size=64)
    for net in (rounded, other):
        net.load_state_dict(first)
    with torch.no_grad():
        for weights in rounded.parameters():  # as another processor draws them
            weights.mul_(1 + 1e-7 * torch.randn_like(weights))
        next(other.parameters())[0, 0, 0, 0] += 1
    train(made / "one", model=rounded)
    with pytest.raises(DataError, match="starting weights: others in"):
        train(made / "one", model=other)


def test_a_run_says_which_images_it_is_tested_on(roots):
    first, other = (load_data(Run(dataset="phantom", split="patient", fold=fold, image_size=64)) for fold in (0, 1))
    whose = first.train.identity()
    assert whose["run"] == first.run.id and whose["test images"] != other.train.identity()["test images"]
    assert whose["test images"] == first.val.identity()["test images"]


def test_other_conditions_are_reported_and_kept_in_the_record_and_equal_ones_leave_no_trace(
    paused, monkeypatch, recwarn, capsys
):
    other = {"processes": "2", "threads": "64", "code": "0123abc", "torch": "2.0.0", "cpu": "another"}
    now = environment.conditions()
    assert now.keys() >= {*other, "gpu", "python"}
    with pytest.raises(TrainingPaused):
        run_fit(paused, epochs=4, time_budget=0)
    assert not [w for w in recwarn if "conditions" in str(w.message)]
    assert "taken up after epoch 2, from checkpoint.pt\n" in capsys.readouterr().out
    monkeypatch.setattr(environment, "conditions", lambda: now | other)
    with pytest.warns(UserWarning, match=r"goes on under other conditions \(.*processes: .* → 2"):
        _, trained = run_fit(paused, epochs=4)
    (line,) = trained.changes
    assert line.startswith("epoch 4: ") and all(f"{k}: {now[k]} → {v}" in line for k, v in other.items())
    assert training_facts(trained)["changes"] == trained.changes
    monkeypatch.setattr(environment, "conditions", lambda: now)
    assert run_fit(paused, epochs=4)[1].changes == trained.changes, "a finished run is not resumed by its reader"
    assert "changes" not in training_facts(replace(trained, changes=[]))


def test_a_checkout_without_git_has_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert environment.git_revision.__wrapped__() == ""


def test_of_a_damaged_checkpoint_the_one_before_goes_on_to_the_same_bytes(paused, made):
    path = paused / "checkpoint.pt"
    said = r"run/checkpoint\.pt: damaged .*checkpoint\.before\.pt; .*checkpoint\.damaged"
    path.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    with pytest.warns(UserWarning, match=said), pytest.raises(TrainingPaused, match="after epoch 2"):
        run_fit(paused, epochs=4, time_budget=0)
    path.write_bytes(b"")  # the damaged one has not become the one before, which is whole again
    with pytest.warns(UserWarning, match="damaged"):
        resumed = run_fit(paused, epochs=4)
    assert_alike(resumed, run_fit(made / "straight", epochs=4))
    assert not damage(paused / "checkpoint.pt") and not damage(paused / "checkpoint.before.pt")
    assert {p.suffixes[0] for p in paused.glob("check*")} == {".pt", ".before", ".damaged"}


def test_damaged_without_a_good_one_or_of_an_older_version_it_is_refused_in_one_line(paused):
    path, before = paused / "checkpoint.pt", paused / "checkpoint.before.pt"
    state = torch.load(path)
    del state["facts"]
    torch.save(state, path)
    files.seal(path)
    for message in (r"not a readable .*; delete .*run to start again", r"damaged .*checkpoint\.before\.pt.* delete"):
        with pytest.raises(DataError, match=rf"checkpoint\.pt: {message}") as refused:
            run_fit(paused, epochs=4)
        assert "\n" not in str(refused.value)
        path.write_bytes(b"half a file"), before.write_bytes(b"half a file")


def test_killed_between_two_names_it_goes_on_from_the_one_before(paused, made):
    (paused / "checkpoint.pt").unlink()
    first = torch.load(paused / "checkpoint.before.pt")["history"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing is damaged
        resumed = run_fit(paused, epochs=4)
    assert resumed[1].history.seconds[0] == first[0]["seconds"], "the first epoch was not trained again"
    assert_alike(resumed, run_fit(made / "straight", epochs=4))


def test_two_checkpoints_are_kept_whatever_the_number_of_epochs(roots, made):
    run_fit(roots / "run", epochs=1, time_budget=0)  # after the last epoch there is nothing to pause
    assert [p.name for p in (roots / "run").glob("check*")] == ["checkpoint.pt"]
    kept = {path.name: len(torch.load(path)["history"]) for path in (made / "straight").glob("check*")}
    assert kept == {"checkpoint.pt": 4, "checkpoint.before.pt": 3}


def test_training_goes_on_when_the_clock_goes_backwards(paused, made, monkeypatch):
    for path in paused.iterdir():  # written by a node that is a day ahead
        os.utime(path, (time.time() + DAY, time.time() + DAY))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - DAY)
    assert_alike(run_fit(paused, epochs=4), run_fit(made / "straight", epochs=4))


def test_a_held_lock_is_waited_for_and_who_holds_it_is_told(roots, monkeypatch):
    """Of a job that was killed the notebook's kernel lives some seconds longer."""
    mine, taken, ended = os.getpid(), threading.Event(), threading.Event()

    def hold():
        held = acquire(roots / "run.lock", "trains this run")
        taken.set()
        ended.wait(300)
        held.release()

    threading.Thread(target=hold, daemon=True).start()
    assert taken.wait(60)
    monkeypatch.setattr(resume, "PATIENCE", 0.5)
    with pytest.raises(DataError, match=rf"process {mine} on {platform.node()} trains .*kill {mine}") as refused:
        run_fit(roots, epochs=1)
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(resume, "PATIENCE", 300)
    threading.Timer(1, ended.set).start()
    assert len(run_fit(roots, epochs=1)[1].history) == 1


def test_the_lock_is_given_back_after_every_end(roots):
    kept = []  # errors hold what their frames held, as in a notebook: nothing but the end itself gives the lock back
    for words in ({"time_budget": 0}, {"lr": 1e-3}, {}):
        try:
            run_fit(roots / "run", **words)
        except (TrainingPaused, DataError) as error:
            kept.append(error)
        FileLock(roots / "run/run.lock", timeout=0).acquire().lock.release()
    assert len(kept) == 2


def test_a_disk_without_locks_is_told_and_trained_on(roots, monkeypatch):
    def unable(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unable)
    with pytest.warns(UserWarning, match=r"run.lock: this disk knows no locks \(No locks available\)"):
        _, trained = run_fit(roots / "run", epochs=1)
    assert len(trained.history) == 1


# One checkpoint fits, a second beside it does not; later there is room.
DISK = """
mount -t tmpfs -o size=55m tmpfs "$1" || exit 77
shift
"$@"
mount -o remount,size=400m "$DISK"
"$@" && cp "$DISK/run/end.pt" "$END"
"""


def test_training_on_a_full_disk_says_so_leaves_nothing_and_goes_on_to_the_same_bytes(roots, made):
    disk, end = roots / "disk", roots / "end.pt"
    disk.mkdir()
    command = ["unshare", "--mount", "sh", "-c", DISK, "sh", str(disk), sys.executable, *program(disk / "run", 4)]
    env = os.environ | {"DISK": str(disk), "END": str(end)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    refused = next(line for line in done.stderr.splitlines() if line.startswith("refused: "))
    assert "checkpoint.pt: cannot be written, the disk is full; free some space" in refused
    assert "Traceback" not in done.stderr
    assert done.stdout.count("epoch 1/4") == 1, "the first epoch is not trained again"
    assert same(torch.load(end), run_fit(made / "straight", epochs=4)[0].state_dict())


REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of this disk is used up; free some space",
    errno.EROFS: "Read-only file system",
    errno.ENOENT: "its folder was removed meanwhile",
}


@pytest.mark.parametrize("number", REFUSALS)
def test_what_the_disk_refuses_is_one_line_that_names_the_file(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "metrics.json"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match=rf"metrics\.json: cannot be written.*{REFUSALS[number]}") as caught:
        write_atomically(path, "after")
    assert "\n" not in str(caught.value)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_an_error_that_is_not_the_disk_s_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError("a bug")
    assert not list(tmp_path.iterdir())


def test_writers_on_two_nodes_with_one_process_number_share_no_temporary_file(tmp_path, monkeypatch):
    with replacing(tmp_path / "a.json") as one:
        one.write_text("one")
        monkeypatch.setattr(platform, "node", lambda: "another")
        with replacing(tmp_path / "a.json") as other:
            assert other != one
            other.write_text("other")
    assert (tmp_path / "a.json").read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "dangling link", "folder"])
def test_what_is_no_regular_file_is_written_through_and_a_link_stays_one(tmp_path, kind):
    path, target = tmp_path / "out.json", tmp_path / "elsewhere/target.json"
    target.parent.mkdir()
    if "link" in kind:
        path.symlink_to(target)
        target.write_text("before") if kind == "link" else None
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    before, read = path.lstat(), []
    if kind == "pipe":
        reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
        reader.start()
    refused = pytest.raises(DataError, match="Is a directory") if kind == "folder" else contextlib.nullcontext()
    with refused:
        write_atomically(path, "after")
    assert path.lstat().st_ino == before.st_ino and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert {p.name for p in tmp_path.rglob("*")} <= {"out.json", "elsewhere", "target.json"}
    if kind == "pipe":
        reader.join(10)
        assert read == ["after"]
    if "link" in kind:
        assert target.read_text() == "after"
