"""A reader of folders of PNG files. Worker processes import it by name, which they cannot do with a test file."""

from pathlib import Path

import numpy as np

from datasets.store import preprocess
from datasets.store.preprocess import RawImage


def read(folder: Path, path: str) -> list[RawImage]:
    """The image `path` of `folder`, with a mask of what is brighter than 100."""
    image = preprocess.decode((folder / path).read_bytes())
    return [RawImage(image, (image[..., None] > 100).astype(np.uint8), {"height": len(image)})]
