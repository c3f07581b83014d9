"""A download that is interrupted or started twice: the next run takes up what was finished."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archives import SCRIPT, bring, folders, left, saved, until

from datasets.store import manifest

pytestmark = pytest.mark.usefixtures("root")


def test_two_at_once_the_second_names_the_first(root, tmp_path, capsys):
    root.mkdir()
    with (root / ".sartaj.lock").open("w") as lock:
        lock.write("process 4711 prepares it")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 1
        assert "process 4711" in capsys.readouterr().err
    assert bring("sartaj", tmp_path / "archive.zip") == 0


def children(pid: int) -> list[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_an_interrupted_run_is_taken_up_after_its_finished_unpacking(number, root, tmp_path):
    archive = saved(tmp_path, folders("sartaj", each=60, side=300))
    command = [
        sys.executable,
        str(SCRIPT),
        "sartaj",
        "--archive",
        str(archive),
        "--partial",
        "--workers",
        "2",
        "--size",
        "1024",
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: len(children(run.pid)) == 3)  # two workers and multiprocessing's resource tracker
    workers = children(run.pid)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as the terminal does: to the workers, too
    else:
        run.send_signal(number)
    _, error = run.communicate(timeout=30)
    assert left(root) == [".sartaj.partial"]
    until(lambda: not any(alive(pid) for pid in workers))
    if number == signal.SIGINT:
        assert run.returncode == 130
        assert error == "interrupted; run the same command again to go on\n"
    again = subprocess.run([*command[:-1], "64"], capture_output=True, text=True)
    assert (again.returncode, left(root)) == (0, ["sartaj"])
    assert "was unpacked before; going on from there" in again.stdout
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 480


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_leftovers_and_another_archive_start_anew(root, tmp_path, capsys):
    work = root / ".sartaj.partial"
    (work / "raw" / "Training").mkdir(parents=True)
    (work / "raw.json").write_text('{"archive": {"name": "archive.zip", "sha256": "other"}}')
    (work / "unpacking").mkdir()
    (work / "images.h5").write_bytes(b"half")
    assert bring("sartaj", saved(tmp_path, folders("sartaj"))) == 0
    assert "unpacked before" not in capsys.readouterr().out
    assert left(root) == ["sartaj"]
