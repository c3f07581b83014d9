"""Data sets from Kaggle: tokens, lost connections, and what Kaggle refuses.

A server on loopback answers Kaggle's own client. As at Kaggle, the API checks the token and redirects to a signed
address on another host, which serves the file with ETag and byte ranges; on request it stalls.
"""

import base64
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from archives import SCRIPT, folders, left, run, until, zipped

from datasets import catalog
from datasets.store import manifest

pytestmark = pytest.mark.usefixtures("root")

HANDLE = catalog.get("sartaj").kaggle
BIG = zipped(folders("sartaj", each=8, side=256, kind="PNG"))  # 4 MiB: the client writes whole MiB
ETAG = '"5d41402abc4b2a76b9719d911017c592"'
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"
WHO_AM_I = "/v1/security.OAuthService/IntrospectToken"
CHUNK = 64 * 1024
POINTED = """
import runpy, sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Kaggle:
    """The server's state, to be set and read by a test.

    Attributes:
        files: handle → bytes of its archive.  `user`, `key`: the one accepted token, old style (both) or new (`key`).
        status: answers all requests for a data set, unless 0.
        stall_at: bytes after which the first request for a file is held.
        served: [Range ("" for none), bytes sent] of each request for the file.
    """

    files: dict[str, bytes]
    user: str = "student"
    key: str = "0123456789abcdef"
    status: int = 0
    stall_at: int = 0
    served: list[list] = field(default_factory=list)
    refused: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Kaggle":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kaggle": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        # of the API; the files lie on `localhost`, another host as far as HTTP goes
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *exception) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    kaggle: Kaggle
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        kaggle, request = self.kaggle, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pair = base64.b64encode(f"{kaggle.user}:{kaggle.key}".encode()).decode()
        handle = f"{request.get('ownerSlug')}/{request.get('datasetSlug')}"
        if self.headers["Authorization"] not in (f"Basic {pair}", f"Bearer {kaggle.key}"):
            kaggle.refused += 1
            self._answer(401, {"code": 401, "message": "Unauthenticated"})
        elif self.path == WHO_AM_I:
            self._answer(200, {"active": True, "username": kaggle.user})
        elif kaggle.status or self.path != DOWNLOAD or handle not in kaggle.files:
            status = kaggle.status or 403
            self._answer(status, {"code": status, "message": "Permission 'datasets.get' was denied"})
        else:
            place = f"http://localhost:{self.server.server_port}/{handle}/archive.zip?X-Goog-Signature=5f3a"
            self._answer(302, {}, {"Location": place})

    def do_GET(self) -> None:
        if "X-Goog-Signature" not in self.path or self.headers["Authorization"]:
            return self._answer(400, {"code": 400, "message": "only one of signature and token"})
        content = self.kaggle.files["/".join(self.path.split("/")[1:3])]
        wanted = self.headers.get("Range", "")
        self.kaggle.served.append([wanted, 0])
        partial = wanted and self.headers.get("If-Range", ETAG) == ETAG
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if partial else 0
        headers = {"ETag": ETAG, "Accept-Ranges": "bytes", "Content-Type": "application/zip"}
        headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if partial else {}
        self._head(206 if partial else 200, headers | {"Content-Length": str(len(content) - start)})
        self._send(content, start, self.kaggle.served[-1])

    def _send(self, content: bytes, start: int, served: list) -> None:
        stall_at, self.kaggle.stall_at = self.kaggle.stall_at, 0
        end = stall_at or len(content)
        try:
            for at in range(start, end, CHUNK):
                chunk = content[at : min(at + CHUNK, end)]
                self.wfile.write(chunk)
                served[1] += len(chunk)
            if stall_at:
                self.kaggle.released.wait(60)
        except OSError:
            pass  # the client went away: it does after a first look at the headers, when it can resume
        self.close_connection = bool(stall_at) or self.close_connection

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode() if content else b""
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {}))
        self.wfile.write(body)


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
