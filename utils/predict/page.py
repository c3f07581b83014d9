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
from pathlib import Path

import matplotlib.pyplot as plt
import tornado.escape
import tornado.httpserver
import tornado.netutil
import tornado.web

from datasets.catalog import DataError
from utils.predict import saved_models
from utils.predict.answers import ask, require_alike
from utils.predict.drawing import DPI, draw
from utils.predict.model import SavedModel
from utils.predict.scans import find
from utils.report.weights import NOTE

LOOPBACK = "127.0.0.1"
PORT = 7860
MOST_BYTES = 512 * 2**20  # of what is dropped at once: four sequences of a BraTS patient take 15 MiB
PAGE = Path(__file__).with_name("page.html")


class Answering:
    """The models that were asked for so far, loaded once each, and the answers of one of them at a time."""

    def __init__(self, default: str):
        self.default = default
        self.models: dict[str, list[SavedModel]] = {}
        self.lock = asyncio.Lock()  # figures are drawn in one thread

    def open(self, name: str) -> list[SavedModel]:
        if name not in self.models:
            models = saved_models.open_models(name)
            require_alike(models)
            self.models[name] = models
        return self.models[name]

    def answer(self, name: str, files: Sequence[tuple[str, bytes]]) -> dict:
        """The answers about dropped files (name and content), with a figure each, ready for JSON."""
        models = self.open(name or self.default)
        with tempfile.TemporaryDirectory() as folder:
            dropped = [_put(Path(folder), file, content) for file, content in files]
            channels = models[0].preparation.channels
            scans, _ = find([Path(folder)] if len(channels) > 1 else dropped, channels, by_folder=False)
            answers, errors = [], []
            for scan in scans:
                try:
                    asked = ask(models, scan)
                    answers.append(
                        asked.answer.as_json() | {"row": asked.answer.row(), "figure": _png(models[0], asked)}
                    )
                except DataError as error:
                    errors.append(str(error))
        return {"answers": answers, "errors": errors, "note": NOTE}


def _put(folder: Path, file: str, content: bytes) -> Path:
    """Write a dropped file where no other of its name lies, below `folder`; returns its path.

    All lie in one folder as long as their names differ: the sequences of a patient are found together.
    """
    name = Path(file.replace("\\", "/")).name
    name = name if name.strip(".") else "file"
    path = next(p for n in itertools.count(1) if not (p := folder / f"dropped {n}" / name).exists())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _png(model: SavedModel, asked) -> str:
    """The figure of an answer as a data URL."""
    figure, buffer = draw(model, asked), io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class Handler(tornado.web.RequestHandler):
    """Answers this machine only: a page of another site may neither embed the answers nor send requests by name."""

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


class Page(Handler):
    """The page itself."""

    def get(self) -> None:
        names = [folder.name for folder, _ in saved_models.cards()]
        options = "".join(f"<option>{tornado.escape.xhtml_escape(name)}</option>" for name in names)
        page = PAGE.read_text(encoding="utf-8").replace("<!-- models -->", options)
        default = self.answering.open(self.answering.default)[0].name
        self.write(page.replace("{{default}}", tornado.escape.xhtml_escape(default)).replace("{{note}}", NOTE))


class Predict(Handler):
    """Files in, answers out, as JSON; `error` is a line for the reader."""

    async def post(self) -> None:
        files = [(file["filename"], file["body"]) for file in self.request.files.get("files", [])]
        try:
            if not files:
                raise DataError("no file was sent")
            async with self.answering.lock:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(
                    None, self.answering.answer, self.get_body_argument("model", ""), files
                )
        except DataError as error:
            found = {"answers": [], "errors": [str(error)], "note": NOTE}
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(found))


def make_server(default: str = saved_models.BEST, port: int = PORT) -> tuple[tornado.httpserver.HTTPServer, int]:
    """A server that listens on the loopback address, and its port (of 0: a free one).

    Raises:
        DataError: the port is taken, or no such model.
    """
    answering = Answering(default)
    answering.open(default)
    routes = [("/", Page), ("/predict", Predict)]
    application = tornado.web.Application([(path, handler, {"answering": answering}) for path, handler in routes])
    try:
        sockets = tornado.netutil.bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise DataError(f"port {port}: {error.strerror}; name another with --port") from error
    server = tornado.httpserver.HTTPServer(application, max_body_size=MOST_BYTES, max_buffer_size=MOST_BYTES)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


async def serve(default: str | None, port: int | None) -> None:
    """Serve the page until the process is stopped; None: the best model, and the usual port."""
    server, port = make_server(default or saved_models.BEST, PORT if port is None else port)
    print(f"http://{LOOPBACK}:{port} (Ctrl-C ends it). {NOTE}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
