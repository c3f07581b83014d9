"""What a run leaves after SIGKILL, and what it says where memory is short."""

import os
import signal
import subprocess
import sys
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
