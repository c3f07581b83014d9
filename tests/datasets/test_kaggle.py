"""Data sets from Kaggle, served by `kaggle_server.py`: tokens, lost connections, and what Kaggle refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from archives import SCRIPT, folders, left, run, until, zipped
from kaggle_server import Kaggle

from datasets import catalog
from datasets.store import manifest

pytestmark = pytest.mark.usefixtures("root")

HANDLE = catalog.get("sartaj").kaggle
BIG = zipped(folders("sartaj", each=8, side=256, kind="PNG"))  # 4 MiB: the client writes whole MiB
POINTED = """
import runpy, sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def kaggle_command(kaggle: Kaggle, name: str = "sartaj") -> list[str]:
    """`python datasets/download.py NAME`, but for the address that Kaggle's client asks."""
    return [sys.executable, "-c", POINTED, kaggle.url, str(SCRIPT), name, "--partial", "--workers", "1"]


def token(home: Path, kaggle: Kaggle, key: str = "", mode: int = 0o600) -> None:
    folder = home / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": kaggle.user, "key": key or kaggle.key}))
    (folder / "kaggle.json").chmod(mode)


@pytest.mark.parametrize("kind", ["kaggle.json", "KAGGLE_KEY", "KAGGLE_API_TOKEN"])
def test_a_set_comes_from_kaggle(kind, root, tmp_path, monkeypatch):
    with Kaggle({HANDLE: BIG}) as kaggle:
        if kind == "kaggle.json":
            token(tmp_path / "home", kaggle, mode=0o644)
        else:
            monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
            monkeypatch.setenv(kind, kaggle.key)
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        assert ("others on this machine can read your token; run: chmod 600" in done.stderr) == (kind == "kaggle.json")
        assert [(s.range, s.sent) for s in kaggle.served] == [("", len(BIG))]
    assert left(root) == ["sartaj"]
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 64
    assert not list(root.rglob("*.zip*"))  # the archive is not kept beside its content


def test_a_killed_download_goes_on_where_it_stopped(root, tmp_path):
    part = root / ".sartaj.partial" / "download" / "brain-tumor-classification-mri.zip.part"
    with Kaggle({HANDLE: BIG}, cut=1, cut_at=len(BIG) // 2 + 2**16, stall=True) as kaggle:
        token(tmp_path / "home", kaggle)
        first = subprocess.Popen(kaggle_command(kaggle), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: part.exists() and part.stat().st_size >= 2**21)
        first.kill()
        first.communicate()
        here = part.stat().st_size
        assert here >= len(BIG) // 2 - 2**20
        assert left(root) == [".sartaj.partial"]
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        assert "can read your token" not in done.stderr, "this one only we can read"
        assert kaggle.served[-1].range == f"bytes={here}-"
        assert kaggle.served[-1].sent == len(BIG) - here
    assert left(root) == ["sartaj"]
    assert len(manifest.read_rows(root / "sartaj" / "manifest.csv")) == 64


def test_a_lost_connection_is_taken_up_within_the_run(root, tmp_path):
    with Kaggle({HANDLE: BIG}, cut=1, cut_at=len(BIG) // 2 + 2**16) as kaggle:
        token(tmp_path / "home", kaggle)
        done = run(kaggle_command(kaggle))
        assert done.returncode == 0, done.stderr
        ranges = [s.range for s in kaggle.served]
        assert ranges == ["", f"bytes={2**21}-"]
        assert kaggle.served[1].sent == len(BIG) - 2**21
    assert left(root) == ["sartaj"]


@pytest.mark.parametrize(
    ("key", "served", "content", "said"),
    [
        ("", HANDLE, None, "save it as ~/.kaggle/kaggle.json or set KAGGLE_USERNAME and KAGGLE_KEY"),
        ("wrong", HANDLE, BIG, "Kaggle refused the token (401)"),
        ("right", "someone/else", BIG, f"Kaggle does not give '{HANDLE}' out (403)"),
        ("right", HANDLE, BIG[: len(BIG) // 2], "not a whole zip archive"),
    ],
    ids=["no token", "wrong token", "unknown handle", "a cut archive at Kaggle"],
)
def test_what_kaggle_refuses_is_said_with_a_remedy(key, served, content, said, root, tmp_path):
    with Kaggle({served: content or b""}) as kaggle:
        if key:
            token(tmp_path / "home", kaggle, key if key == "wrong" else "")
        done = run(kaggle_command(kaggle))
        assert kaggle.refused == (key == "wrong")
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") <= 3
    assert left(root) == []
