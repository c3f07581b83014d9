"""Data sets from Kaggle: tokens, lost connections, and what Kaggle refuses.

A server on loopback answers Kaggle's own client. As at Kaggle, the API checks the token and redirects to a signed
address on another host, which serves the file with ETag and byte ranges; on request it stalls.
"""

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from archives import bring, folders, left, until, zipped

from datasets import catalog
from datasets.store import manifest

pytestmark = pytest.mark.usefixtures("root")

HANDLE = catalog.get("sartaj").kaggle
BIG = zipped(folders("sartaj", each=8, side=256, kind="PNG"))  # 4 MiB: the client writes whole MiB
ETAG = '"5d41402abc4b2a76b9719d911017c592"'
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"
WHO_AM_I = "/v1/security.OAuthService/IntrospectToken"
CHUNK = 64 * 1024
USER, KEY = "student", "0123456789abcdef"  # a token of the old style is both, a new one the key alone
POINTED = """
import sys
from kagglesdk import kaggle_http_client
from datasets import download
kaggle_http_client.get_endpoint = lambda environment: sys.argv[1]
download.main(["sartaj", "--partial"])
"""


class Handler(BaseHTTPRequestHandler):
    """Answers as `self.server` says, see `kaggle`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        kaggle, request = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pair = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        handle = f"{request.get('ownerSlug')}/{request.get('datasetSlug')}"
        if self.headers["Authorization"] not in (f"Basic {pair}", f"Bearer {KEY}"):
            kaggle.refused += 1
            self._answer(401, {"code": 401, "message": "Unauthenticated"})
        elif self.path == WHO_AM_I:
            self._answer(200, {"active": True, "username": USER})
        elif kaggle.status or self.path != DOWNLOAD or handle != kaggle.handle:
            status = kaggle.status or 403
            self._answer(status, {"code": status, "message": "Permission 'datasets.get' was denied"})
        else:
            place = f"http://localhost:{kaggle.server_port}/{handle}/archive.zip?X-Goog-Signature=5f3a"  # another host
            self._answer(302, {}, {"Location": place})

    def do_GET(self) -> None:
        if "X-Goog-Signature" not in self.path or self.headers["Authorization"]:
            return self._answer(400, {"code": 400, "message": "only one of signature and token"})
        content, wanted = self.server.content, self.headers.get("Range", "")
        self.server.served.append([wanted, 0])
        partial = wanted and self.headers.get("If-Range", ETAG) == ETAG
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if partial else 0
        headers = {"ETag": ETAG, "Accept-Ranges": "bytes", "Content-Type": "application/zip"}
        headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if partial else {}
        self._head(206 if partial else 200, headers | {"Content-Length": str(len(content) - start)})
        self._send(content, start, self.server.served[-1])

    def _send(self, content: bytes, start: int, served: list) -> None:
        stall_at, self.server.stall_at = self.server.stall_at, 0
        end = stall_at or len(content)
        try:
            for at in range(start, end, CHUNK):
                chunk = content[at : min(at + CHUNK, end)]
                self.wfile.write(chunk)
                served[1] += len(chunk)
            if stall_at:
                self.server.released.wait(60)
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


@pytest.fixture
def kaggle(monkeypatch):
    """The server that Kaggle's client asks, to be set and read by a test.

    `content`: the archive of `handle`; `status` answers all requests for a data set, unless 0; `stall_at`: bytes after
    which the first request for a file is held; `served`: [Range ("" for none), bytes sent] of each request for the
    file; `refused`: requests without the token.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vars(server).update(content=BIG, handle=HANDLE, status=0, stall_at=0, served=[], refused=0)
    server.daemon_threads, server.released = True, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("kagglesdk.kaggle_http_client.get_endpoint", lambda environment: server.url)
    for name in [name for name in sys.modules if name.partition(".")[0] == "kaggle"]:
        monkeypatch.delitem(sys.modules, name)  # it looks for a token, and a home, as it is imported
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def saved_token(home: Path, key: str = KEY, name: str = "kaggle.json") -> None:
    (home / ".kaggle").mkdir(parents=True)
    content = json.dumps({"username": USER, "key": key}) if name == "kaggle.json" else key
    (home / ".kaggle" / name).write_text(content)
    (home / ".kaggle" / name).chmod(0o600)


@pytest.mark.parametrize("kind", ["KAGGLE_KEY", "KAGGLE_API_TOKEN", "access_token"])
def test_a_set_comes_from_kaggle(kind, kaggle, root, tmp_path, monkeypatch):
    if kind == "access_token":
        saved_token(tmp_path / "home", name=kind)
    else:
        monkeypatch.setenv("KAGGLE_USERNAME", USER)
        monkeypatch.setenv(kind, KEY)
    assert bring("sartaj", None, "--partial") == 0 and kaggle.served == [["", len(BIG)]]
    assert left(root) == ["sartaj"] and len(manifest.read_rows(root / "sartaj/manifest.csv")) == 64
    assert not list(root.rglob("*.zip*")), "the archive is not kept beside its content"


def test_a_killed_download_goes_on_where_it_stopped(kaggle, root, tmp_path):
    part = root / ".sartaj.partial/download/brain-tumor-classification-mri.zip"
    kaggle.stall_at = len(BIG) // 2 + 2**16
    saved_token(tmp_path / "home")
    command = [sys.executable, "-c", POINTED, kaggle.url]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: part.exists() and part.stat().st_size >= 2**21)
    first.kill()
    first.communicate()
    here = part.stat().st_size
    assert here >= len(BIG) // 2 - 2**20 and left(root) == [".sartaj.partial"]
    assert bring("sartaj", None, "--partial") == 0 and kaggle.served[-1] == [f"bytes={here}-", len(BIG) - here]
    assert left(root) == ["sartaj"] and len(manifest.read_rows(root / "sartaj/manifest.csv")) == 64


REFUSED = {  # what the server is, the key that is sent ("": none), and what is said
    "no token": ({}, "", "save it as ~/.kaggle/access_token or set KAGGLE_API_TOKEN (an older"),
    "wrong token": ({}, "wrong", "(401); it refused the token: make a new one"),
    "unknown handle": ({"handle": "a/b"}, KEY, f"'{HANDLE}' (403); it was renamed or withdrawn, or its terms"),
    "not found": ({"status": 404}, KEY, "(404); it was renamed or withdrawn, or its terms must be accepted"),
    "too many requests": ({"status": 429}, KEY, "(429); try again later, or download"),
    "a cut archive": ({"content": BIG[: len(BIG) // 2]}, KEY, "not a whole zip archive"),
    "nobody answers": ({"url": "http://127.0.0.1:9"}, KEY, "run again to go on, or download"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_kaggle_refuses_is_said_with_a_remedy(case, kaggle, root, tmp_path, capsys):
    how, key, said = REFUSED[case]
    vars(kaggle).update(how)
    if key:
        saved_token(tmp_path / "home", key)
    assert bring("sartaj", None, "--partial") == 1 and kaggle.refused == (case == "wrong token")
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") <= 3 and left(root) == []
