"""How much memory and time it takes to bring ChestX-ray14 in, all 112,120 X-rays of it, generated:

    python benchmarks/xrays.py [--images N] [--side N] [--write]

The archive has the publisher's form (twelve folders, table, two lists). It repeats 64 generated X-rays, since random
pixels of a gigabyte would measure the generator. Everything lies in a temporary folder that is removed.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import psutil
from PIL import Image

from datasets.catalog import REPO, get
from utils.files import write_atomically
from utils.report.records import git_revision, hardware

DISTINCT = 64
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


def archive(path: Path, images: int, side: int) -> None:
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


def main() -> None:
    """Make the archive, bring it in, say what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=112_120)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--write", action="store_true", help="to saved_metrics/benchmarks/xrays.json")
    args = parser.parse_args()
    images, side = args.images, args.side
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.zip"
        archive(path, images, side)
        print(f"{images:,} X-rays of {side}×{side}: archive of {path.stat().st_size / 2**30:.2f} GiB")
        seconds, held = bring_in(path, Path(folder) / "data")
        with h5py.File(Path(folder) / "data/chest-xray14/images.h5") as store:
            assert len(store["image"]) == images
        print(f"{seconds:.0f} s, {images / seconds:.0f} X-rays a second on {os.cpu_count()} cores")
        print(f"memory of all processes at most {held / 2**30:.2f} GiB; the limit is 2 GiB")

    if args.write:
        record = {
            "images": images,
            "side": side,
            "seconds": round(seconds, 1),
            "images a second": round(images / seconds),
        }
        record |= {"GiB of memory at most": round(held / 2**30, 3), "hardware": hardware(), "git": git_revision()}
        write_atomically(REPO / "saved_metrics/benchmarks/xrays.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
