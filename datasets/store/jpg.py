"""Writes the packed images of a data set as JPEG files, a folder a class: what torchvision's `ImageFolder` reads."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import catalog
from datasets.catalog import DataError
from datasets.store.images import ImageDataset
from datasets.store.index import packed_by, read_manifest


def write(name: str, folder: Path) -> None:
    """Write `folder`/SPLIT/LABEL/ROW_NAME.jpg of every image, grey and as large as it is stored; without SPLIT where
    the publisher has none. The folder appears when it is whole.

    Raises `DataError`: there is something in it, it cannot be written, or a label cannot be the name of a folder.
    """
    table, work = read_manifest(name), folder.with_name(f".{folder.name}.partial")
    odd = [
        label
        for label in table.label.unique()
        if not label.strip() or label[0] == "." or "/" in label or not label.isprintable()
    ]
    if catalog.get(name).findings or odd:
        what = f"its label {odd[0]!r} is no name for a folder" if odd else "an image may show several findings"
        raise DataError(f"--jpg {folder}: {what}, so '{name}' has no folder a class; read it with ImageDataset")
    images = ImageDataset(name, np.arange(len(table)), image_size=packed_by(name)[1], in_memory=False)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"--jpg {folder}: not an empty folder; name another, or empty it")
        shutil.rmtree(work, ignore_errors=True)
        for row, line in enumerate(tqdm(table.itertuples(), name, len(table), disable=None, leave=False)):
            pixels = images[row]["image"][0].numpy()
            path = work / line.published_split / line.label / f"{row:06}_{Path(line.path).stem}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=95)
        work.replace(folder)
    except OSError as error:
        raise DataError(
            f"--jpg {folder}: cannot be written ({error.strerror or error}); name another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{name}: {len(table)} images of {images.image_size}×{images.image_size} as JPEG files in {folder}")
