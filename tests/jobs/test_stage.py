"""Copies of data sets on the disk of a node: the same data, read from there, and gone when the command ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from archives import until

from datasets.catalog import REPO
from datasets.splitting import make_split
from datasets.store.images import ImageDataset


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


def test_a_command_reads_the_copy_as_it_reads_the_shared_one_and_its_code_is_the_scripts(stage, tmp_path, monkeypatch):
    shared, where = tmp_path / "shared", 'echo "$BRAIN_MRI_DATA"'
    assert stage("bash", "-c", where, BRAIN_MRI_STAGE="").communicate(timeout=60)[0] == f"{shared}\n"
    work, found = f"{where}; until [[ -e {tmp_path}/read ]]; do sleep 0.1; done; exit 75", []
    process = stage("bash", "-c", work, BRAIN_MRI_STAGE="phantom")
    (copy,) = (line.strip() for line in (process.stdout.readline(), process.stdout.readline()) if " copied" not in line)
    assert copy.startswith(str(tmp_path / "local/brain-mri."))
    for root in (shared, Path(copy)):
        monkeypatch.setenv("BRAIN_MRI_DATA", str(root))
        data = ImageDataset("phantom", make_split("phantom", "patient").train, image_size=64)
        found.append((data.identity(), data.path.stat().st_ino, (root / "other").is_symlink()))
    (tmp_path / "read").touch()
    assert process.wait(60) == 75 and not any((tmp_path / "local").iterdir()), "the copy is gone"
    assert found[0][0] == found[1][0], "a checkpoint of the one belongs to the other"
    assert found[0][1] != found[1][1] and [other for _, _, other in found] == [False, True]
    assert (shared / "other/images.h5").is_file() and (shared / "phantom/images.h5").is_file()


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
