"""A page on this machine alone: drop an image or a volume, see what a saved model says. See `python -m utils.app`.

Served by tornado, which JupyterLab brings: Gradio needs an older Pillow than the images are decoded with here. It
listens on the loopback address only, answers no page of another site, and keeps no file.
"""

import asyncio
import base64
import io
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import tornado.httpserver
import tornado.netutil
import tornado.web
from tornado.escape import xhtml_escape as escape

from datasets.catalog import DataError
from utils.predict.model import SavedModel, cards, open_models
from utils.predict.prepare import find
from utils.predict.verdict import DPI, ask, draw, require_alike
from utils.report.weights import NOTE

LOOPBACK = "127.0.0.1"
MOST_BYTES = 512 * 2**20  # of what is dropped at once: four sequences of a BraTS patient take 15 MiB
PAGE = Path(__file__).with_name("page.html")


class Answering:
    """The models that were asked for so far, loaded once each, and what they answer."""

    def __init__(self, default: str):
        self.default = default
        self.models: dict[str, list[SavedModel]] = {}
        self.lock = asyncio.Lock()  # figures are drawn in one thread

    def open(self, name: str) -> list[SavedModel]:
        if name not in self.models:
            require_alike(models := open_models(name))
            self.models[name] = models
        return self.models[name]

    def answer(self, name: str, files: Sequence[tuple[str, bytes]]) -> dict:
        """The answers about dropped files (name and content), with a figure each, ready for JSON."""
        models = self.open(name or self.default)
        answers, errors = [], []
        with tempfile.TemporaryDirectory() as folder:
            dropped = [_put(Path(folder), file, content) for file, content in files]
            channels = models[0].preparation.channels
            scans, _ = find([Path(folder)] if len(channels) > 1 else dropped, channels, by_folder=False)
            for scan in scans:
                try:
                    asked = ask(models, scan)
                except DataError as error:
                    errors.append(str(error))
                    continue
                figure, buffer = draw(models[0], asked), io.BytesIO()
                figure.savefig(buffer, dpi=DPI)
                plt.close(figure)
                url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
                answers.append(asdict(asked.answer) | {"row": asked.answer.row(), "figure": url})
        return {"answers": answers, "errors": errors, "note": NOTE}


def _put(folder: Path, file: str, content: bytes) -> Path:
    """Write a dropped file below `folder`; all lie in one folder as long as their names differ, so that the sequences
    of a patient are found together."""
    name = Path(file.replace("\\", "/")).name
    name = name if name.strip(".") else "file"
    path = next(p for n in itertools.count(1) if not (p := folder / f"dropped {n}" / name).exists())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


class Page(tornado.web.RequestHandler):
    """The page and its answers, for this machine alone: another site may neither embed nor request them."""

    def initialize(self, answering: Answering) -> None:
        self.answering = answering

    def prepare(self) -> None:
        host = self.request.host.rpartition(":")[0] or self.request.host
        origin = self.request.headers.get("Origin")
        if host not in (LOOPBACK, "localhost") or (origin and origin.rpartition("//")[2] != self.request.host):
            raise tornado.web.HTTPError(403)

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")

    def get(self) -> None:
        options = "".join(f"<option>{escape(folder.name)}</option>" for folder, _ in cards())
        page = PAGE.read_text(encoding="utf-8").replace("<!-- models -->", options)
        default = self.answering.open(self.answering.default)[0].name
        self.write(page.replace("{{default}}", escape(default)).replace("{{note}}", NOTE))

    async def post(self) -> None:
        """Files in, answers out, as JSON; `errors` are lines for the reader."""
        files = [(file["filename"], file["body"]) for file in self.request.files.get("files", [])]
        name = self.get_body_argument("model", "")
        try:
            if not files:
                raise DataError("no file was sent")
            async with self.answering.lock:
                found = await asyncio.to_thread(self.answering.answer, name, files)
        except DataError as error:
            found = {"answers": [], "errors": [str(error)], "note": NOTE}
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(found))


def make_server(default: str, port: int) -> tuple[tornado.httpserver.HTTPServer, int]:
    """A server that listens on the loopback address, and its port (of 0: a free one); `DataError` if it is taken."""
    answering = Answering(default)
    answering.open(default)
    application = tornado.web.Application([("/(?:predict)?", Page, {"answering": answering})])
    try:
        sockets = tornado.netutil.bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise DataError(f"port {port}: {error.strerror}; name another with --port") from error
    server = tornado.httpserver.HTTPServer(application, max_body_size=MOST_BYTES, max_buffer_size=MOST_BYTES)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


async def serve(default: str, port: int) -> None:
    """Serve the page until the process is stopped."""
    server, port = make_server(default, port)
    print(f"http://{LOOPBACK}:{port} (Ctrl-C ends it). {NOTE}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
