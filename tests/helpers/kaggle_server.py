"""A Kaggle server on loopback that answers Kaggle's own client when it downloads a data set.

As at Kaggle, the API checks the token and redirects to a signed address on another host, which serves the file with
ETag and byte ranges; on request it stalls.
"""

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ETAG = '"5d41402abc4b2a76b9719d911017c592"'
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"
WHO_AM_I = "/v1/security.OAuthService/IntrospectToken"
CHUNK = 64 * 1024


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
