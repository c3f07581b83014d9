"""What is done to an image between its file and a model: cropped, resized, viewed, resized again to the model's side.

Packing and training call these functions one after the other, with the packed file between them; `Preparation` calls
them at once, on an image that no data set holds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np

from datasets.catalog import DataError, lookup
from datasets.store.preprocess import CROPS, RawImage, prepare
from datasets.transforms import VIEWS, clahe, level, undo

# How images are resized, as a card names it; `preprocess.crop_and_resize` and `resize` do so.
INTERPOLATION = "area where it shrinks, bilinear where it enlarges"
# How pixel values become numbers, as a card names it; `Classification.inputs` and `Segmentation.inputs` do so.
UNIT, MINMAX = "grey values / 255", "each slice and channel by its own minimum and maximum to [0, 1]"
SCALINGS = {UNIT: "Classification", MINMAX: "Segmentation"}


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """H×W×C → side×side×C, same type; area averaging when shrinking, so that no fine line is skipped."""
    if image.shape[:2] == (side, side):
        return image
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method).reshape(side, side, image.shape[2])


def as_input(image: np.ndarray, side: int, view: str = "stored", turn: str = "upright") -> np.ndarray:
    """A packed image as a model receives it, C×side×side of the same type.

    Args:
        image: H×W×C, as packed.
        view: key of `VIEWS`, what is done before it is resized.
        turn: how the publisher turned it, a key of `transforms.TRANSFORMS`; it is undone in the view "upright".
    """
    if view == "upright":
        image = undo(image, turn)
    elif view in ("levelled", "clahe"):
        change = level if view == "levelled" else clahe
        image = np.stack([change(plane) for plane in np.moveaxis(image, 2, 0)], axis=2)
    return resize(np.ascontiguousarray(image), side).transpose(2, 0, 1)


@dataclass(frozen=True)
class Preparation:
    """What was done to the images that a model was trained on, as its card says: `Preparation.of_card(card["input"])`.

    Attributes:
        channels: sequences, in order; one channel is a grey image.
        crop, stored_size: arguments of `preprocess.prepare`.
        view, size: arguments of `as_input`.
        interpolation, scaling: `INTERPOLATION` and a key of `SCALINGS`; there are no others.

    Raises:
        DataError: a value that this version does not know.
    """

    channels: tuple[str, ...]
    crop: str
    stored_size: int
    view: str
    size: int
    interpolation: str = INTERPOLATION
    scaling: str = UNIT

    def __post_init__(self):
        lookup(CROPS, self.crop, "crop")
        lookup(VIEWS, self.view, "view")
        lookup(SCALINGS, self.scaling, "scaling")
        lookup({INTERPOLATION: None}, self.interpolation, "interpolation")

    @classmethod
    def of_card(cls, entries: Mapping[str, Any]) -> "Preparation":
        """The `input` of a card; raises `DataError` where an entry is missing or unknown."""
        names = [field.name for field in fields(cls)]
        if set(entries) != set(names):
            raise DataError(f"the card's input has {sorted(entries)}; this version reads {sorted(names)}")
        return cls(**{**entries, "channels": tuple(entries["channels"])})

    def as_card(self) -> dict[str, Any]:
        """The entries of a card's `input`."""
        return {**asdict(self), "channels": list(self.channels)}

    def __call__(self, raw: RawImage) -> np.ndarray:
        """An image H×W, or H×W×C with the channels of this preparation → C×size×size, as in training.

        Nobody has outlined a tumour in a new image, so its crop is never widened to hold one; nor is it known to be
        turned.
        """
        packed = prepare(raw, self.stored_size, self.crop).image
        return as_input(packed if packed.ndim == 3 else packed[..., None], self.size, self.view)
