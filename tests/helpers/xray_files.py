"""ChestX-ray14 in small, in the exact form of its publisher: twelve folders, table, two lists."""

import io

import numpy as np
from PIL import Image

from datasets.catalog import get

DISTINCT = 64  # X-rays that are repeated: random pixels of a gigabyte would measure the generator
HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


def xray(seed: int, side: int) -> bytes:
    """A PNG that is as smooth, and packs about as badly, as an X-ray."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16), dtype=np.uint8)).resize((side, side))
    noisy = np.asarray(coarse, np.int16) + rng.integers(-6, 7, (side, side))
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(noisy.clip(0, 255))).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def published(images: int = 120, side: int = 32) -> dict[str, bytes]:
    """The files of an archive; four X-rays a patient, and of every five patients one is in the test list."""
    findings, rows, lists, files = get("chest-xray14").findings, [HEADER], ([], []), {}
    drawn = [xray(seed, side) for seed in range(min(DISTINCT, images))]
    for i in range(images):
        patient, number = i // 4 + 1, i % 4
        name = f"{patient:08d}_{number:03d}.png"
        label = "No Finding" if i % 2 else "|".join(sorted({findings[i // 2 % 14], findings[i // 28 % 14]}))
        rows.append(f"{name},{label},{number},{patient},{20 + patient % 60},{'MF'[patient % 2]},PA")
        lists[patient % 5 == 0].append(name)
        files[f"images_{i * 12 // images + 1:03d}/images/{name}"] = drawn[i % len(drawn)]
    listed = {"Data_Entry_2017.csv": rows, "train_val_list.txt": lists[0], "test_list.txt": lists[1]}
    return {name: "\n".join(lines).encode() for name, lines in listed.items()} | files
