"""`.ci/slurm.sh`: it trusts no folder that somebody else may have laid, and its daemons serve this machine alone."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from datasets.catalog import REPO

SCRIPT = REPO / ".ci/slurm.sh"
OURS = "ClusterName=brainmri\n"
PROGRAMS = ("sinfo", "scancel", "slurmctld", "slurmd", "munged")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """`call(word, **environment)` runs the script with SLURM's programs replaced by ones that note their call."""
    (tmp_path / "bin").mkdir()
    for name in PROGRAMS:
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $SLURM_CONF" >>{tmp_path}/calls\nprintf "brain1\\nbrain2\\n"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("SLURM_CONF", "BRAIN_MRI_SLURM"):
        monkeypatch.delenv(name, raising=False)

    def run(word: str, **environment: str) -> tuple[subprocess.CompletedProcess, str]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            [SCRIPT, word], capture_output=True, text=True, timeout=300, env=os.environ | environment, check=False
        )
        return done, (tmp_path / "calls").read_text()

    return run


def laid(folder: Path, mode: int = 0o755, owner: int | None = None, file_mode: int = 0o644) -> Path:
    """A folder with a configuration in it, as anyone may lay it."""
    folder.mkdir()
    (folder / "slurm.conf").write_text(OURS)
    (folder / "slurm.conf").chmod(file_mode)
    folder.chmod(mode)
    if owner is not None:
        os.chown(folder, owner, -1)
    return folder


UNSAFE = {
    "writable by all": {"mode": 0o777},
    "writable by the group": {"mode": 0o775},
    "a configuration writable by all": {"file_mode": 0o666},
    "another's": {"owner": 65534},
    "a link": {},
}


@pytest.mark.parametrize("word", ["start", "stop", "status"])
@pytest.mark.parametrize("named_by", ["SLURM_CONF", "BRAIN_MRI_SLURM"])
@pytest.mark.parametrize("how", UNSAFE)
def test_a_configuration_that_others_may_have_laid_is_never_loaded(tmp_path, call, how, named_by, word):
    if how == "another's" and os.geteuid():
        pytest.skip("only root can lay another's folder")
    folder = laid(tmp_path / "slurm", **UNSAFE[how])
    if how == "a link":
        folder = folder.rename(tmp_path / "elsewhere")
        (tmp_path / "slurm").symlink_to(folder)
    done, calls = call(word, **{named_by: f"{tmp_path}/slurm{'/slurm.conf' if named_by == 'SLURM_CONF' else ''}"})
    assert f"{tmp_path}/slurm/slurm.conf" not in calls and (folder / "slurm.conf").read_text() == OURS
    if word == "start" and named_by == "BRAIN_MRI_SLURM":
        assert done.returncode == 1 and "is there already" in done.stderr and calls == ""
    if word == "start" and named_by == "SLURM_CONF":
        assert call("stop", SLURM_CONF=re.search("export SLURM_CONF=(.*)", done.stdout)[1])[0].returncode == 0
    if word == "status":
        assert done.returncode == 1


def test_what_is_ours_is_taken_and_removed(tmp_path, call):
    conf = laid(tmp_path / "slurm") / "slurm.conf"
    done, calls = call("status", SLURM_CONF=str(conf))
    assert done.returncode == 0 and calls == f"sinfo {conf}\n"
    assert call("stop", SLURM_CONF=str(conf))[0].returncode == 0 and not conf.parent.exists()


def test_each_start_has_a_new_folder_that_only_we_can_write_and_nodes_with_all_cores(tmp_path, call):
    """`nproc` says 1 where OMP_NUM_THREADS does, and SLURM then refuses every job that asks for two."""
    folders = set()
    for _ in range(2):
        done, calls = call("start", OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1")
        assert done.returncode == 0, done.stderr
        conf = Path(re.fullmatch("export SLURM_CONF=(.*)\n", done.stdout)[1])
        folders.add(conf.parent)
        assert f"slurmctld {conf}\n" in calls
        assert conf.parent.stat().st_uid == os.geteuid() and not conf.parent.stat().st_mode & 0o022
        assert (conf.parent / "munge.key").stat().st_mode & 0o777 == 0o600
        assert int(re.search(r"CPUs=(\d+)", conf.read_text())[1]) == len(os.sched_getaffinity(0))
    for folder in folders:
        assert call("stop", SLURM_CONF=f"{folder}/slurm.conf")[0].returncode == 0 and not folder.exists()
    assert len(folders) == 2


def listening(pid: int) -> list[str]:
    """Addresses, as in /proc/net/tcp, on which a process listens."""
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]


@pytest.mark.slurm
def test_its_daemons_listen_on_the_loopback_address_alone():
    conf = Path(os.environ.get("SLURM_CONF", "none"))
    if not conf.is_file() or OURS not in conf.read_text():
        pytest.skip("no cluster of .ci/slurm.sh is running here")
    for name in ("slurmctld", "slurmd-brain1", "slurmd-brain2"):
        addresses = listening(int((conf.parent / f"{name}.pid").read_text()))
        assert addresses, name
        assert all(address.startswith("0100007F:") for address in addresses), f"{name} listens on {addresses}"
