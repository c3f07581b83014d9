"""ChestX-ray14 in small, in the exact form of its publisher."""

import importlib.util
import zipfile
from pathlib import Path

from datasets import download
from datasets.catalog import REPO

spec = importlib.util.spec_from_file_location("xrays", REPO / "benchmarks/xrays.py")
xrays = importlib.util.module_from_spec(spec)
spec.loader.exec_module(xrays)


def published(folder: Path, images: int = 120, **changes: str | None) -> Path:
    """An archive in the publisher's form; `changes`: file name with its dot as `_` → text, None leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    xrays.archive(folder / "whole.zip", images, 32)
    with zipfile.ZipFile(folder / "whole.zip") as whole, zipfile.ZipFile(folder / "data.zip", "w") as other:
        for member in whole.namelist():
            content = changes.get(member.replace(".", "_"), whole.read(member))
            if content is not None:
                other.writestr(member, content)
    return folder / "data.zip"


def bring(archive: Path) -> int:
    return download.main(["chest-xray14", "--archive", str(archive), "--workers", "1", "--size", "32", "--partial"])
