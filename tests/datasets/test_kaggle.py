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


def kaggle_command(url: str) -> list[str]:
    """`python datasets/download.py sartaj`, but for the address that Kaggle's client asks."""
    return [sys.executable, "-c", POINTED, url, str(SCRIPT), "sartaj", "--partial", "--workers", "1"]


def token(home: Path, kaggle: Kaggle, key: str = "") -> None:
    folder = home / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": kaggle.user, "key": key or kaggle.key}))
    (folder / "kaggle.json").chmod(0o600)


@pytest.mark.parametrize("kind", ["KAGGLE_KEY", "KAGGLE_API_TOKEN", "access_token"])
def test_a_set_comes_from_kaggle(kind, root, tmp_path, monkeypatch):
    with Kaggle({HANDLE: BIG}) as kaggle:
        if kind == "access_token":
            (tmp_path / "home/.kaggle").mkdir(parents=True)
            (tmp_path / "home/.kaggle/access_token").write_text(kaggle.key)
        else:
            monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
            monkeypatch.setenv(kind, kaggle.key)
        done = run(kaggle_command(kaggle.url))
        assert done.returncode == 0, done.stderr
        assert kaggle.served == [["", len(BIG)]]
    assert left(root) == ["sartaj"] and len(manifest.read_rows(root / "sartaj/manifest.csv")) == 64
    assert not list(root.rglob("*.zip*")), "the archive is not kept beside its content"


def test_a_killed_download_goes_on_where_it_stopped(root, tmp_path):
    part = root / ".sartaj.partial/download/brain-tumor-classification-mri.zip"
    with Kaggle({HANDLE: BIG}, stall_at=len(BIG) // 2 + 2**16) as kaggle:
        token(tmp_path / "home", kaggle)
        first = subprocess.Popen(kaggle_command(kaggle.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: part.exists() and part.stat().st_size >= 2**21)
        first.kill()
        first.communicate()
        here = part.stat().st_size
        assert here >= len(BIG) // 2 - 2**20 and left(root) == [".sartaj.partial"]
        done = run(kaggle_command(kaggle.url))
        assert done.returncode == 0
        assert kaggle.served[-1] == [f"bytes={here}-", len(BIG) - here]
    assert left(root) == ["sartaj"] and len(manifest.read_rows(root / "sartaj/manifest.csv")) == 64


REFUSED = {
    "no token": ({"key": ""}, "save it as ~/.kaggle/access_token or set KAGGLE_API_TOKEN (an older"),
    "wrong token": ({"key": "wrong"}, "(401); it refused the token: make a new one"),
    "unknown handle": ({"served": "someone/else"}, f"'{HANDLE}' (403); it was renamed or withdrawn, or its terms"),
    "not found": ({"status": 404}, "(404); it was renamed or withdrawn, or its terms must be accepted"),
    "too many requests": ({"status": 429}, "(429); try again later, or download"),
    "a cut archive": ({"content": BIG[: len(BIG) // 2]}, "not a whole zip archive"),
    "nobody answers": ({"down": True}, "run again to go on, or download"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_kaggle_refuses_is_said_with_a_remedy(case, root, tmp_path):
    how, said = REFUSED[case]
    with Kaggle({how.get("served", HANDLE): how.get("content", BIG)}, status=how.get("status", 0)) as kaggle:
        if how.get("key") != "":
            token(tmp_path / "home", kaggle, how.get("key", ""))
        done = run(kaggle_command("http://127.0.0.1:9" if "down" in how else kaggle.url))
        assert kaggle.refused == (case == "wrong token")
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") <= 3 and left(root) == []
