"""A Kaggle server on loopback that answers Kaggle's own client when it downloads a data set.

`test_kaggle.py` points the client here. As at Kaggle, the API checks the token and redirects to a signed address
on another host, which serves the file with ETag and byte ranges; on request it cuts the connection or stalls.
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
class Served:
    """One request for the file: its Range ("" for none) and the bytes sent in answer."""

    range: str
    sent: int = 0


@dataclass
class Kaggle:
    """The server's state, to be set and read by a test.

    Attributes:
        files: handle → bytes of its archive.  `user`, `key`: the one accepted token, old style (both) or new (`key`).
        cut: number of file requests to break off after `cut_at` bytes; `stall` holds them there instead.
    """

    files: dict[str, bytes]
    user: str = "student"
    key: str = "0123456789abcdef"
    cut: int = 0
    cut_at: int = 0
    stall: bool = False
    served: list[Served] = field(default_factory=list)
    refused: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Kaggle":
        handler = type("Handler", (_Handler,), {"kaggle": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        """Address of the API; the files lie on `localhost`, another host as far as HTTP goes."""
        return f"http://127.0.0.1:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    kaggle: Kaggle
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._known(self.headers["Authorization"] or ""):
            self.kaggle.refused += 1
            return self._json(401, {"code": 401, "message": "Unauthenticated"})
        if self.path == WHO_AM_I:
            return self._json(200, {"active": True, "username": self.kaggle.user})
        handle = f"{request.get('ownerSlug')}/{request.get('datasetSlug')}"
        if self.path != DOWNLOAD or handle not in self.kaggle.files:
            return self._json(403, {"code": 403, "message": "Permission 'datasets.get' was denied"})
        self.send_response(302)
        port = self.server.server_port
        self.send_header("Location", f"http://localhost:{port}/{handle}/archive.zip?X-Goog-Signature=5f3a")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _known(self, authorization: str) -> bool:
        pair = base64.b64encode(f"{self.kaggle.user}:{self.kaggle.key}".encode()).decode()
        return authorization in (f"Basic {pair}", f"Bearer {self.kaggle.key}")

    def do_GET(self) -> None:
        if "X-Goog-Signature" not in self.path or self.headers["Authorization"]:
            return self._json(400, {"code": 400, "message": "only one of signature and token"})
        content = self.kaggle.files["/".join(self.path.split("/")[1:3])]
        served = Served(self.headers.get("Range", ""))
        self.kaggle.served.append(served)
        partial = served.range and self.headers.get("If-Range", ETAG) == ETAG
        start = int(served.range.removeprefix("bytes=").removesuffix("-")) if partial else 0
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", "application/zip")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", ETAG)
        self.end_headers()
        self._send(content, start, served)

    def _send(self, content: bytes, start: int, served: Served) -> None:
        kaggle, breaks = self.kaggle, self.kaggle.cut > 0
        kaggle.cut -= breaks
        end = kaggle.cut_at if breaks else len(content)
        try:
            for at in range(start, end, CHUNK):
                chunk = content[at : min(at + CHUNK, end)]
                self.wfile.write(chunk)
                served.sent += len(chunk)
            if breaks and kaggle.stall:
                kaggle.released.wait(60)
        except OSError:
            pass  # the client went away: it does after a first look at the headers, when it can resume
        self.close_connection = breaks or self.close_connection

    def _json(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
