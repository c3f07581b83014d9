"""A page on this machine alone: drop files or a folder, see what a saved model says. `python -m utils.predict.page`.

Served by tornado, which JupyterLab brings: Gradio needs an older Pillow than the images are decoded with here. It
listens on the loopback address only, wants the token of its address as Jupyter does, answers no page of another site,
and keeps no file. It is shown at once; torch and the model are loaded behind it.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import re
import secrets
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import tornado.httpserver
import tornado.netutil
import tornado.web
from tornado import httputil

from datasets.catalog import DataError, lookup
from datasets.commands import NOTE, errors_in_one_line

if TYPE_CHECKING:
    from utils.predict.model import SavedModel
    from utils.predict.prepare import Scan

LOOPBACK = "127.0.0.1"
MOST_BYTES = 512 * 2**20  # of what is dropped at once: four sequences of a BraTS patient take 15 MiB
MANY = httputil.ParseBodyConfig(multipart=httputil.ParseMultipartConfig(max_parts=100_000))  # slices of a series
LONGEST = 100  # characters of a file's name that are kept
EXAMPLES = ("glioma", "pituitary", "notumor")  # classes of the phantom


def offered(first: str) -> dict[str, tuple[str, str]]:
    """The models that may be asked: name → what it answers, and what it is in words. The first is the one that `first`
    stands for; raises `DataError` where there is none, `UnknownName` with the nearest name."""
    from utils.saved_models import BEST, HUB, best, cards, rows

    found = {}
    for (folder, card), row in zip(cards(), rows(), strict=True):
        run = card["trained_on"]
        how = {None: "", True: ", pretrained", False: ", from scratch"}[run.get("pretrained")]
        words = f"{row['test result']}, {row['tested']}: {card['model']} ({run['recipe']}{how}) on {run['dataset']}"
        found[folder.name] = row["answers"], words
    name = best().name if first == BEST else first
    if not (first.startswith(HUB) or os.path.isdir(first)):
        lookup(found, name, "model")
    return {name: found.get(name, ("named by the command", name))} | found


@cache
def opened(name: str) -> "SavedModel":
    """The model of a name, loaded once."""
    from utils.predict.model import open_model

    return open_model(name)


def example(kind: str) -> list[tuple[str, bytes]]:
    """A slice of the phantom as a dropped file; raises `UnknownName` for a class that it has not."""
    import cv2

    from datasets.generator.phantom import draw_one

    lookup(dict.fromkeys(EXAMPLES), kind, "example")
    return [(f"phantom, drawn as {kind}.png", cv2.imencode(".png", draw_one(kind))[1].tobytes())]


def answer(model: "SavedModel", files: Sequence[tuple[str, bytes]]) -> dict:
    """The answers about dropped files (name, with the folders of a dropped folder, and content), with a figure each,
    ready for JSON."""
    import matplotlib.pyplot as plt

    from utils.predict.prepare import find
    from utils.predict.verdict import ask, draw

    plt.switch_backend("agg")
    answers, scans, errors, notes = [], [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        _write(root, files)
        several, entries = len(model.preparation.channels) > 1, sorted(root.glob("*/*"))
        loose = [path for path in entries if path.is_file()]
        wholes = [[root]] if several else [loose, *([path] for path in entries if path.is_dir())]
        for paths in filter(None, wholes):
            try:
                found, noted = find(paths, model.preparation.channels)
                scans, notes = scans + found, notes + noted
            except DataError as error:
                errors.append(str(error))
        for scan in scans:
            scan = replace(scan, name=_shown(scan, root))
            try:
                asked = ask(model, scan)
            except DataError as error:
                errors.append(str(error))
                continue
            figure, buffer = draw(model, asked), io.BytesIO()
            figure.suptitle("")  # its words stand beside it
            figure.savefig(buffer)
            plt.close(figure)
            url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
            answers.append(asdict(asked.answer) | {"row": asked.answer.row(), "figure": url})
    inside = re.compile(rf"{re.escape(temporary)}(/\d+)?")  # of which a reader knows nothing
    errors, notes = ([inside.sub("what was dropped", line) for line in lines] for lines in (errors, notes))
    return {"answers": answers, "errors": errors, "notes": notes, "note": NOTE}


def _write(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """Write dropped files below `root`, in a folder for each drop that they were part of: a name that comes again
    begins another, so that the sequences of two patients are not mixed."""
    number = 1
    for file, content in files:
        parts = [part.replace("\0", "")[-LONGEST:] for part in file.replace("\\", "/").split("/")]
        parts = [part for part in parts if part.strip(".") and ":" not in part] or ["file"]
        while True:
            path = root.joinpath(str(number), *parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target:
                    target.write(content)
                break
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                number += 1


def _shown(scan: "Scan", root: Path) -> str:
    """What the reader calls a scan: the path that was dropped; of the sequences of a patient their folder or, where
    there is none or it holds others too, the words with which their names begin."""
    several = len(scan.channels) > 1
    place = scan.files[0].parent if several else scan.files[0]
    number, *parts = place.relative_to(root).parts
    name = "/".join(parts)
    if several and (not name or len(list(place.iterdir())) > len(scan.files)):
        same = os.path.commonprefix([path.name for path in scan.files])  # noqa: RUF071, of characters
        whose = same[: max(same.rfind(mark) for mark in " _-.") + 1].rstrip(" _-.")
        name = "/".join(filter(None, [name, whose])) or "patient"
    again = sum(root.joinpath(str(drop), *parts).exists() for drop in range(1, int(number) + 1))
    return name if again == 1 else f"{name} ({again})"


class Page(tornado.web.RequestHandler):
    """The page and its answers, for this machine alone: another site may neither embed nor request them."""

    def initialize(self, models: dict[str, tuple[str, str]], token: str, lock: asyncio.Lock) -> None:
        self.models, self.token, self.lock = models, token, lock

    def prepare(self) -> None:
        if self.request.host_name not in (LOOPBACK, "localhost"):
            raise tornado.web.HTTPError(403)
        if not secrets.compare_digest(self.get_query_argument("token", "").encode(), self.token.encode()):
            self.set_status(403)
            self.finish("Open the whole address that the terminal shows: it ends with a token.")

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")  # the address holds the token
        self.set_header("Cache-Control", "no-store")

    def get(self, path: str) -> None:
        if path:
            raise tornado.web.HTTPError(405)
        self.render("page.html", models=self.models, examples=EXAMPLES, most=MOST_BYTES, note=NOTE)

    async def post(self, path: str) -> None:
        """`load`: the sequences that a model takes. `predict`: files, or an example, in; answers out, as JSON; `errors`
        and `notes` are lines for the reader."""
        try:
            if len(self.request.body) > MOST_BYTES:
                self.set_status(413)
                raise DataError(f"more than {MOST_BYTES >> 20} MiB at once; drop fewer files")
            name = self.get_query_argument("model", "")
            lookup(self.models, name, "model")
            async with self.lock:  # figures are drawn in one thread
                found = await asyncio.to_thread(self.found, path, name)
        except DataError as error:
            found = {"answers": [], "errors": [str(error)], "notes": [], "note": NOTE}
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(found))

    def found(self, path: str, name: str) -> dict:
        """What a request asks for, ready for JSON."""
        model = opened(name)
        if path != "predict":
            return {"channels": model.preparation.channels, "errors": []}
        sent = [(file.filename, file.body) for file in self.request.files.get("files", [])]
        if kind := self.get_query_argument("example", ""):
            sent = example(kind)
        if not sent:
            raise DataError("no file was sent")
        return answer(model, sent)


def make_server(first: str, port: int, token: str) -> tuple[tornado.httpserver.HTTPServer, int]:
    """A server that listens on the loopback address, and its port (of 0: a free one); `DataError` if it is taken, or
    where the model `first` is not there."""
    how = {"models": offered(first), "token": token, "lock": asyncio.Lock()}
    httputil.set_parse_body_config(MANY)
    application = tornado.web.Application([("/(load|predict)?", Page, how)], cross_origin_protection=True)
    try:
        sockets = tornado.netutil.bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise DataError(f"port {port}: {error.strerror}; name another with --port") from error
    # What is too large is refused in words by `Page`, and unread where it is twice as much.
    server = tornado.httpserver.HTTPServer(application, max_body_size=2 * MOST_BYTES)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


async def serve(first: str, port: int, browser: bool) -> None:
    """Serve the page until the process is stopped."""
    token = secrets.token_urlsafe(24)
    server, port = make_server(first, port, token)
    address = f"http://{LOOPBACK}:{port}/?token={token}"
    print(f"{address} (Ctrl-C ends it). {NOTE}", flush=True)
    if browser:
        await asyncio.to_thread(webbrowser.open, address)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict.page", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="best", help="the one that is chosen first, the best if left out")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--no-browser", action="store_true", help="show the address only")
    args = parser.parse_args(argv)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(args.model, args.port, not args.no_browser))
    return 0


if __name__ == "__main__":
    sys.exit(main())
