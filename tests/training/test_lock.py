"""One run, one process that trains it: the second is told who does, and a lock that was left behind holds nobody up."""

import contextlib
import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from small_training import TRAIN, run_fit, same

from datasets.catalog import DataError
from utils import files
from utils.training import resume
from utils.training.resume import TrainingPaused

LONG = 5000  # epochs, more than any test waits for

HELPERS = str(Path(__file__).parents[1] / "helpers")


@pytest.fixture
def elsewhere(roots):
    """Start a training of many epochs in another process, in `roots/run`; yields it after its first epoch."""
    started = []

    def start(epochs=LONG):
        (roots / "run").mkdir(exist_ok=True)
        script = TRAIN.format(helpers=HELPERS, folder=str(roots / "run"))
        script = script.replace("epochs=4", f"epochs={epochs}")
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert "epoch 1/" in process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_who_trains_the_run(roots, elsewhere, monkeypatch):
    monkeypatch.setattr(resume, "PATIENCE", 0.5)
    first = elsewhere()
    whose = rf"run: process {first.pid} on {platform.node()} trains .*kill {first.pid}"
    with pytest.raises(DataError, match=whose) as refused:
        run_fit(roots / "run", epochs=LONG)
    assert "\n" not in str(refused.value)
    assert first.poll() is None, "the first one goes on"
    (roots / "run/STOP").touch()
    assert first.wait(60) == 1 and "epoch" in first.stdout.read(), "and pauses in good order"


def test_it_waits_a_moment_for_one_that_is_about_to_end(roots, elsewhere, monkeypatch):
    """Of a job that was killed the notebook's kernel lives some seconds longer."""
    monkeypatch.setattr(resume, "PATIENCE", 10 * resume.PATIENCE)
    first = elsewhere(epochs=12)
    _, trained = run_fit(roots / "run", epochs=12)
    assert first.wait(60) == 0 and len(trained.history) == 12


def test_the_lock_of_a_killed_process_holds_nobody_up(roots, elsewhere, monkeypatch):
    first = elsewhere()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert str(first.pid) in (roots / "run/run.lock").read_text(), "it had no time to tidy up"
    (roots / "run/checkpoint.pt.node-77.tmp").write_bytes(b"half")
    monkeypatch.setattr(resume, "PATIENCE", 0)
    with pytest.raises(TrainingPaused):
        run_fit(roots / "run", epochs=LONG, time_budget=0)
    assert not list((roots / "run").glob("*.tmp")), "nor does a file that it was writing fill the disk"


def test_the_lock_is_given_back_after_every_end(roots):
    for words in ({"time_budget": 0}, {"lr": 1e-3}, {}):
        with contextlib.suppress(TrainingPaused, DataError):
            run_fit(roots / "run", **words)
        FileLock(roots / "run/run.lock", timeout=0).acquire().lock.release()


def test_a_disk_without_locks_is_told_and_trained_on(roots, monkeypatch):
    def unable(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    plain, _ = run_fit(roots / "plain", epochs=1)
    monkeypatch.setattr("fcntl.flock", unable)
    with pytest.warns(UserWarning, match=r"run.lock: this disk knows no locks \(No locks available\)"):
        model, _ = run_fit(roots / "run", epochs=1)
    assert same(plain.state_dict(), model.state_dict())


def test_two_processes_of_one_training_share_the_lock_and_end_together_without_it(roots, elsewhere, tmp_path):
    """Under torchrun the first process alone takes it; when it is held, all of them end with the same line."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {HELPERS!r})\n"
        "from small_training import run_fit\n"
        "from utils.training import resume\n"
        "resume.PATIENCE = 0.5\n"
        "try:\n"
        f"    run_fit({str(tmp_path)!r} + '/' + sys.argv[1], epochs=1)\n"
        "    left = 'trained'\n"
        "except Exception as error:\n"
        "    left = f'{type(error).__name__}: {error}'\n"
        f"open({str(tmp_path)!r} + f'/{{sys.argv[1]}}{{os.environ[\"RANK\"]}}', 'w').write(left)\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    first = elsewhere()
    for name in ("run", "free"):
        subprocess.run([*torchrun, name], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120)
    assert [(tmp_path / f"free{rank}").read_text() for rank in (0, 1)] == ["trained"] * 2
    held = {(tmp_path / f"run{rank}").read_text() for rank in (0, 1)}
    assert len(held) == 1 and f"DataError: {roots / 'run'}: process {first.pid} on" in held.pop()


def test_writers_on_two_nodes_with_one_process_number_share_no_temporary_file(tmp_path, monkeypatch):
    with files.replacing(tmp_path / "a.json") as one:
        one.write_text("one")
        monkeypatch.setattr(platform, "node", lambda: "another")
        with files.replacing(tmp_path / "a.json") as other:
            assert other != one
            other.write_text("other")
    assert (tmp_path / "a.json").read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
