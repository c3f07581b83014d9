"""Random images that are unlike any other, and their thumbnails."""

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from datasets.curation.thumbnails import PACKED_SIDE, collect, thumbnail, traits


def image(seed, shape=(90, 110)):
    """A smooth random image: unlike any other, and unlike itself when turned."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 9)
    return np.uint8(255 * (noise - noise.min()) / np.ptp(noise))


def thumbnails_of(images, labels=None, **columns):
    """`Thumbnails` of arrays, with a manifest of made-up paths."""
    names = [f"{i}.png" for i in range(len(images))]
    known = {
        "dataset": "made-up",
        "published_split": "train",
        "patient": "",
        "sha256": names,
        "label": labels or "glioma",
    } | columns
    packed = [thumbnail(i, PACKED_SIDE) for i in images]
    table = pd.DataFrame({"path": names} | known, index=range(len(images)))
    return collect(table, [traits(i) for i in images], packed)
