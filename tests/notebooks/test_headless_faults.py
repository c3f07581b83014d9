"""What a run leaves after SIGKILL, and what it says where memory is short."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_notebook import small_notebook

from utils import files, headless


def start(path: Path, root: Path) -> subprocess.Popen:
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(root)}
    command = [sys.executable, "-m", "utils.headless", str(path)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def of_process(pid: int) -> list[Path]:
    """Socket folders that a process holds open."""
    links = [Path(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return [Path(os.readlink(link)) for link in links if headless.PREFIX in os.readlink(link)]


def test_the_socket_folder_of_a_killed_run_is_taken_away_by_the_next_and_that_of_a_running_one_is_not(tmp_path):
    waits = small_notebook(tmp_path / "waits.ipynb", "import time\nprint('asleep', flush=True)\ntime.sleep(120)")
    running, killed = start(waits, tmp_path), start(waits, tmp_path)
    try:
        for process in (running, killed):
            assert any("asleep" in line for line in process.stdout)
        (kept,), (left,) = of_process(running.pid), of_process(killed.pid)
        killed.send_signal(signal.SIGKILL)
        killed.wait(20)
        assert left.is_dir(), "nobody could take it away"
        done = start(small_notebook(tmp_path / "small.ipynb", "1"), tmp_path)
        assert done.wait(100) == 0
        assert not left.exists() and kept.is_dir()
    finally:
        running.terminate()
        running.wait(30)
    assert not kept.exists()


def test_a_folder_that_another_process_takes_for_one_left_behind_is_replaced(tmp_path, monkeypatch):
    """Another's clean-up may come at each of three moments after the folder was made; here, at one after the other."""
    monkeypatch.setattr(headless, "SOCKETS", tmp_path)
    make, lock, made, held = tempfile.mkdtemp, fcntl.flock, [], []

    def made_and_seen(**options: object) -> str:
        made.append(make(**options))
        if len(made) == 1:  # it is gone before it is opened
            shutil.rmtree(made[0])
        if len(made) == 2:  # it is being removed
            held.append(os.open(made[1], os.O_RDONLY))
            lock(held[0], fcntl.LOCK_EX)
        return made[-1]

    def locked_too_late(descriptor: int, operation: int) -> None:
        if len(made) == 3:  # it was opened, and is gone before it is locked
            shutil.rmtree(made[2])
        lock(descriptor, operation)

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_seen)
    monkeypatch.setattr(fcntl, "flock", locked_too_late)
    with headless._socket_folder() as folder:
        assert str(folder) == made[-1] and len(made) == 4 and folder.is_dir()
        with pytest.raises(BlockingIOError):
            headless._locked(folder)
    assert not folder.exists()
    os.close(held[0])


def test_cleaning_up_leaves_no_descriptor_open(tmp_path, monkeypatch):
    monkeypatch.setattr(headless, "SOCKETS", tmp_path)
    for name in "abc":
        (tmp_path / f"{headless.PREFIX}{name}").mkdir()
    before = os.listdir("/proc/self/fd")
    with headless._socket_folder() as folder:
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1 and list(tmp_path.iterdir()) == [folder]
    assert os.listdir("/proc/self/fd") == before and not any(tmp_path.iterdir())


def test_a_disk_that_takes_no_folder_for_the_sockets_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(headless, "SOCKETS", tmp_path / "none")
    monkeypatch.setattr(headless, "_prepare_process", lambda: None)  # this process keeps its signals
    path = small_notebook(tmp_path / "small.ipynb", "1")
    assert headless.main([str(path), "--output", str(tmp_path / "out.ipynb")]) == 1
    said = f"error: {tmp_path}/none: no folder for a kernel's sockets can be made (No such file or directory)\n"
    assert capsys.readouterr().err == said


SHORT = {
    "Python": "bytes(2**62)",
    "torch": "import torch\ntorch.empty(2**60)",
    "NumPy": "import numpy as np\nnp.ones(2**50)",
}


@pytest.mark.parametrize("library", SHORT)
def test_out_of_memory_says_what_to_make_smaller(tmp_path, library):
    process = start(small_notebook(tmp_path / "small.ipynb", SHORT[library]), tmp_path)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    line = next(line for line in errors.splitlines() if line.startswith("error: "))
    assert "try a smaller batch_size or image_size" in line


def test_files_are_readable_as_the_umask_says(tmp_path):
    with files.replacing(tmp_path / "model.safetensors") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~files.UMASK
