"""A page on this machine alone: drop an image or a volume, see what a saved model says. `python -m utils.predict.page`.

Served by tornado, which JupyterLab brings: Gradio needs an older Pillow than the images are decoded with here. It
listens on the loopback address only, answers no page of another site, and keeps no file.
"""

import argparse
import asyncio
import base64
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import tornado.httpserver
import tornado.netutil
import tornado.web
from tornado.escape import xhtml_escape as escape

from datasets.catalog import DataError
from datasets.commands import NOTE, errors_in_one_line
from utils.predict.model import SavedModel, open_model
from utils.predict.prepare import find
from utils.predict.verdict import ask, draw

LOOPBACK = "127.0.0.1"
MOST_BYTES = 512 * 2**20  # of what is dropped at once: four sequences of a BraTS patient take 15 MiB
PAGE = Path(__file__).with_name("page.html")


def answer(model: SavedModel, files: Sequence[tuple[str, bytes]]) -> dict:
    """The answers about dropped files (name and content), with a figure each, ready for JSON."""
    answers, errors, number = [], [], 1
    with tempfile.TemporaryDirectory() as root:
        dropped = []
        for file, content in files:
            name = Path(file.replace("\\", "/")).name
            name = name if name.strip(".") else "file"
            # The sequences of a patient are found in one folder; a name that comes again begins another patient.
            number += (Path(root) / f"dropped {number}" / name).exists()
            path = Path(root) / f"dropped {number}" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            dropped.append(path)
        channels = model.preparation.channels
        scans, _ = find([Path(root)] if len(channels) > 1 else dropped, channels)
        for scan in scans:
            try:
                asked = ask(model, scan)
            except DataError as error:
                errors.append(str(error))
                continue
            figure, buffer = draw(model, asked), io.BytesIO()
            figure.savefig(buffer)
            plt.close(figure)
            url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
            answers.append(asdict(asked.answer) | {"row": asked.answer.row(), "figure": url})
    return {"answers": answers, "errors": errors, "note": NOTE}


class Page(tornado.web.RequestHandler):
    """The page and its answers, for this machine alone: another site may neither embed nor request them."""

    def initialize(self, model: SavedModel, lock: asyncio.Lock) -> None:
        self.model, self.lock = model, lock

    def prepare(self) -> None:
        host = self.request.host.rpartition(":")[0] or self.request.host
        origin = self.request.headers.get("Origin")
        if host not in (LOOPBACK, "localhost") or (origin and origin.rpartition("//")[2] != self.request.host):
            raise tornado.web.HTTPError(403)

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")

    def get(self) -> None:
        page = PAGE.read_text(encoding="utf-8").replace("{{model}}", escape(self.model.name))
        self.write(page.replace("{{note}}", NOTE))

    async def post(self) -> None:
        """Files in, answers out, as JSON; `errors` are lines for the reader."""
        files = [(file["filename"], file["body"]) for file in self.request.files.get("files", [])]
        try:
            if not files:
                raise DataError("no file was sent")
            async with self.lock:  # figures are drawn in one thread
                found = await asyncio.to_thread(answer, self.model, files)
        except DataError as error:
            found = {"answers": [], "errors": [str(error)], "note": NOTE}
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(found))


def make_server(model: SavedModel, port: int) -> tuple[tornado.httpserver.HTTPServer, int]:
    """A server that listens on the loopback address, and its port (of 0: a free one); `DataError` if it is taken."""
    application = tornado.web.Application([("/(?:predict)?", Page, {"model": model, "lock": asyncio.Lock()})])
    try:
        sockets = tornado.netutil.bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise DataError(f"port {port}: {error.strerror}; name another with --port") from error
    server = tornado.httpserver.HTTPServer(application, max_body_size=MOST_BYTES, max_buffer_size=MOST_BYTES)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


async def serve(model: SavedModel, port: int) -> None:
    """Serve the page until the process is stopped."""
    server, port = make_server(model, port)
    print(f"http://{LOOPBACK}:{port} (Ctrl-C ends it). {NOTE}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict.page", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="best", help="the best if left out")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args(argv)
    plt.switch_backend("agg")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(open_model(args.model), args.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
