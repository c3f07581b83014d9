"""A disk that is really full when a checkpoint or a record is written: one line says so, and training goes on later."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import run_fit, same

from datasets.catalog import DataError
from utils.files import replacing, write_atomically

HELPERS = str(Path(__file__).parents[1] / "helpers")
# One checkpoint fits, a second beside it does not; later there is room.
SCRIPT = """
mount -t tmpfs -o size=55m tmpfs "$1" || exit 77
"$2" "$3" "$1/run"
echo "left: $(ls "$1/run")" | tr '\\n' ' ' >&2
mount -o remount,size=400m "$1"
"$2" "$3" "$1/run" && cp "$1/run/end.pt" "$4"
"""
TRAIN = """
import sys
sys.path.insert(0, {helpers!r})
import torch
from datasets.catalog import DataError
from small_training import run_fit
try:
    model, _ = run_fit(sys.argv[1], epochs=3)
except DataError as error:
    sys.exit(f"refused: {{error}}")
torch.save(model.state_dict(), sys.argv[1] + "/end.pt")
"""


def test_training_on_a_full_disk_says_so_leaves_nothing_and_goes_on_to_the_same_bytes(roots):
    disk, program, end = roots / "disk", roots / "train.py", roots / "end.pt"
    disk.mkdir()
    program.write_text(TRAIN.format(helpers=HELPERS))
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *map(str, (disk, sys.executable, program, end))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting a small disk is not allowed here")
    refused = next(line for line in done.stderr.splitlines() if line.startswith("refused: "))
    assert "checkpoint.pt: cannot be written, the disk is full; free some space" in refused
    assert "Traceback" not in done.stderr and ".tmp" not in done.stderr
    assert done.stdout.count("epoch 1/3") == 1, "the first epoch is not trained again"
    straight, _ = run_fit(roots / "straight", epochs=3)
    assert same(torch.load(end), straight.state_dict())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the quota of this disk is used up; free some space"),
        (errno.EROFS, "Read-only file system"),
        (errno.ENOENT, "its folder was removed meanwhile"),
    ],
)
def test_what_the_disk_refuses_is_one_line_that_names_the_file(tmp_path, monkeypatch, number, said):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "metrics.json"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match=rf"metrics\.json: cannot be written.*{said}") as caught:
        write_atomically(path, "after")
    assert "\n" not in str(caught.value)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_an_error_that_is_not_the_disk_s_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError("a bug")
    assert not list(tmp_path.iterdir())
