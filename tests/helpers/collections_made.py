"""Archives of the further collections with images made here, and `download.py` run on them."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import download
from datasets.catalog import get
from datasets.store import manifest


def image(seed: int, kind: str = "JPEG", mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(60, 255, (48, 40), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def saved(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "archive.zip"


def bring(name: str, archive: Path, *options: str) -> int:
    """`download.py` in this process, on one core; of a few images, which are a part of the published set."""
    words = ["--archive", str(archive), "--workers", "1", "--size", "64", "--partial"]
    return download.main([name, *words, *options])


FORMATS = {".png": "PNG", "webp": "WEBP"}


def made(name: str, folder: Path, *options: str) -> None:
    """Bring a whole data set in with images made here under the publisher's names: the committed tables then say who
    is related to whom.
    """
    paths = list(manifest.originals(name))
    files = {path: image(i, FORMATS.get(path[-4:], "JPEG")) for i, path in enumerate(paths)}
    assert bring(name, saved(folder / name, files), *options) == 0


NAVONEEL = {
    "yes/Y1.jpg": image(0),
    "yes/Y10.JPG": image(1, mode="RGB"),
    "yes/Y3.png": image(2, "PNG", "RGBA"),
    "no/1 no.jpeg": image(3),
    "no/no 4.jpg": image(4),
    "no/N15.jpg": image(5),
    "no/no.jpg": image(6),
}


TWICE = NAVONEEL | {f"brain_tumor_dataset/{path}": content for path, content in NAVONEEL.items()}


BR35H = {f"{folder}/{stem}{i}.jpg": image(10 * i) for folder, stem in (("yes", "y"), ("no", "no")) for i in range(3)}
BR35H |= {"pred/pred0.jpg": image(7), "Br35H-Mask-RCNN/TRAIN/y1.jpg": image(8)}


FOLDERS = get("brain-tumor-44c").folders


def many(each: int = 2) -> dict[str, bytes]:
    """An archive of the 44 folders, one file a `.webp` as there is one."""
    files = {f"{folder}/{i}.jpeg": image(100 * k + i) for k, folder in enumerate(FOLDERS) for i in range(each)}
    return files | {"Astrocitoma T1C+/x_big_gallery.webp": image(9999, "WEBP")}
