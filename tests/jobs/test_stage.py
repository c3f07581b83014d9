"""Copies of data sets on the disk of a node: the same data, read from there, and gone when the command ends."""

import os
import signal
import subprocess
import sys

import pytest
from archives import until

from datasets.catalog import REPO

SHOW = """
import os
from pathlib import Path
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
root = Path(os.environ["BRAIN_MRI_DATA"])
data = ImageDataset("phantom", make_split("phantom", "patient").train, image_size=64)
print(root, (root / "phantom/images.h5").stat().st_ino, (root / "other").is_symlink(), data.identity(), sep="|")
"""


@pytest.fixture
def stage(small_phantom, tmp_path):
    """`stage(*command, **variables)`: `jobs/stage.sh` in the background; other sets lie beside the phantom."""
    shared, local = tmp_path / "shared", tmp_path / "local"
    (shared / "other/raw").mkdir(parents=True)
    (shared / "other/images.h5").write_bytes(b"x" * 2000)
    (shared / "phantom").symlink_to(small_phantom / "phantom")
    (shared / "phantom/raw").mkdir(exist_ok=True)
    local.mkdir()

    def start(*command: str, **variables: str) -> subprocess.Popen:
        env = os.environ | {"BRAIN_MRI_DATA": str(shared), "BRAIN_MRI_LOCAL": str(local)} | variables
        command = ["bash", "jobs/stage.sh", *command]
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    yield start
    (small_phantom / "phantom/raw").rmdir()


def test_a_command_reads_the_copy_as_it_reads_the_shared_one(stage, tmp_path):
    shared, staged = (stage(sys.executable, "-c", SHOW, BRAIN_MRI_STAGE=name) for name in ("", "phantom"))
    found = [process.communicate(timeout=120)[0].splitlines()[-1].split("|") for process in (shared, staged)]
    assert found[0][3] == found[1][3], "a checkpoint of the one belongs to the other"
    assert found[0][0] == str(tmp_path / "shared") and found[1][0].startswith(str(tmp_path / "local/brain-mri."))
    assert found[0][1] != found[1][1] and [line[2] for line in found] == ["False", "True"]
    assert not any((tmp_path / "local").iterdir()), "the copy is gone"
    assert (tmp_path / "shared/other/images.h5").is_file() and (tmp_path / "shared/phantom/images.h5").is_file()


def test_a_stopped_job_leaves_no_copy(stage, tmp_path):
    process = stage("sleep", "60", BRAIN_MRI_STAGE="phantom")
    assert "phantom copied to" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    until(lambda: not any((tmp_path / "local").iterdir()))


@pytest.mark.parametrize(
    ("name", "disk", "said"),
    [
        ("phantom nothing", None, "no data set 'nothing' in"),
        ("phantom", "/nowhere", "/nowhere: no folder can be made there"),
        ("phantom", "full", "'phantom' does not fit there"),
    ],
)
def test_what_cannot_be_copied_is_said_in_one_line_and_leaves_nothing(stage, tmp_path, name, disk, said):
    where = {"BRAIN_MRI_LOCAL": disk} if disk == "/nowhere" else {}
    command = f"{'ulimit -f 1; ' if disk == 'full' else ''}BRAIN_MRI_STAGE='{name}' exec bash jobs/stage.sh echo begun"
    process = stage("bash", "-c", command, BRAIN_MRI_STAGE="", **where)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "begun" not in out and not any((tmp_path / "local").iterdir())
    assert next(line for line in err.splitlines() if line.startswith("error: ")).count(said) == 1


def test_the_code_of_the_command_is_that_of_the_script(stage):
    assert stage("bash", "-c", "exit 75", BRAIN_MRI_STAGE="phantom").wait(60) == 75
