"""ChestX-ray14 in small, in the exact form of its publisher: twelve folders, table, two lists."""

import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from datasets import download
from datasets.catalog import REPO, get

DISTINCT = 64  # X-rays that are repeated: random pixels of a gigabyte would measure the generator
PER_PATIENT = 4
FOLDERS = 12


def xray(seed: int, side: int) -> bytes:
    """A PNG that is as smooth, and packs about as badly, as an X-ray."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16), dtype=np.uint8)).resize((side, side))
    noisy = np.asarray(coarse, np.int16) + rng.integers(-6, 7, (side, side))
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(noisy.clip(0, 255))).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def names(images: int) -> list[str]:
    """File names as the publisher gives them: patient and number of the X-ray."""
    return [f"{i // PER_PATIENT + 1:08d}_{i % PER_PATIENT:03d}.png" for i in range(images)]


def made_archive(path: Path, images: int, side: int) -> None:
    """Write an archive in the publisher's form; of every five patients one is in the test list."""
    findings, files = get("chest-xray14").findings, names(images)
    rows, lists = (
        ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"],
        ([], []),
    )
    for i, name in enumerate(files):
        patient = i // PER_PATIENT + 1
        label = "No Finding" if i % 2 else "|".join(sorted({findings[i // 2 % 14], findings[i // 28 % 14]}))
        rows.append(f"{name},{label},{i % PER_PATIENT},{patient},{20 + patient % 60},{'MF'[patient % 2]},PA")
        lists[patient % 5 == 0].append(name)
    drawn = [xray(seed, side) for seed in range(min(DISTINCT, images))]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("Data_Entry_2017.csv", "\n".join(rows) + "\n")
        for name, listed in zip(("train_val_list.txt", "test_list.txt"), lists, strict=True):
            file.writestr(name, "\n".join(listed) + "\n")
        for i, name in enumerate(files):
            file.writestr(f"images_{i * FOLDERS // images + 1:03d}/images/{name}", drawn[i % len(drawn)])


def bring_in(path: Path, root: Path, size: int = 256) -> tuple[float, int]:
    """Seconds of `download.py`, and the most memory that it and its workers held at once, in bytes."""
    command = [sys.executable, str(REPO / "datasets/download.py"), "chest-xray14", "--archive", str(path), "--partial"]
    environment = os.environ | {"BRAIN_MRI_DATA": str(root), "BRAIN_MRI_HEADLESS": "1"}
    started, most = time.monotonic(), 0
    run = subprocess.Popen([*command, "--size", str(size)], env=environment)
    process = psutil.Process(run.pid)
    while run.poll() is None:
        held = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                held += one.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        most = max(most, held)
        time.sleep(0.1)
    assert run.returncode == 0, "download.py failed"
    return time.monotonic() - started, most


def published(folder: Path, images: int = 120, **changes: str | None) -> Path:
    """An archive in the publisher's form; `changes`: file name with its dot as `_` → text, None leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    made_archive(folder / "whole.zip", images, 32)
    with zipfile.ZipFile(folder / "whole.zip") as whole, zipfile.ZipFile(folder / "data.zip", "w") as other:
        for member in whole.namelist():
            content = changes.get(member.replace(".", "_"), whole.read(member))
            if content is not None:
                other.writestr(member, content)
    return folder / "data.zip"


def bring(archive: Path) -> int:
    return download.main(["chest-xray14", "--archive", str(archive), "--workers", "1", "--size", "32", "--partial"])
