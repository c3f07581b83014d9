"""Is an image like those that a network was trained on? Its features are compared with those of the training images.

The features are mean and spread over all places of the maps of several convolutions, from the first to the last, and
the input of the last linear layer; the last alone show less, since a classifier has learned to ignore most of an image.
Probabilistic PCA (Tipping & Bishop 1999) of the training images gives the distance: Mahalanobis' within the components,
and what lies outside them by its own variance. This was chosen on altered validation images and on the phantom, never
on the images whose detection is reported: files, photographs (that ship with scikit-learn) and noise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from datasets import catalog
from datasets.catalog import DataError
from datasets.store.manifest import sha256
from datasets.store.preprocess import RawImage, to_uint8
from utils.evaluation.predict import recording
from utils.files import replacing
from utils.predict.prepare import IMAGE, Scan

FAMILIARITY = "familiarity.safetensors"  # beside the weights
DEPTHS = 8  # convolutions that are listened to, evenly from the first to the last
COMPONENTS, IMAGES_EACH = 64, 30  # at most, and training images for each of them
FALSE_ALARMS = 0.05  # share of the validation images that are called unlike the training's
LEAST_SCALE = 0.01  # of the median scale
NOISE, SIDE = 60, 256  # images of each kind of noise, and their side
MOST = 250  # files of each kind


@contextmanager
def feature_tap(network: nn.Module) -> Iterator[Callable[[], np.ndarray]]:
    """Within the block every pass through a network leaves features; what is yielded returns those of the last, N×D."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    places = np.unique(np.linspace(0, len(convolutions) - 1, DEPTHS).round().astype(int))
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    heard = [*(convolutions[place] for place in places), *linear[-1:]]

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> tuple[nn.Module, Tensor]:
        if isinstance(module, nn.Linear):
            return module, inputs[0].reshape(len(inputs[0]), -1, inputs[0].shape[-1]).mean(1)
        return module, torch.cat([output.mean((2, 3)), output.std((2, 3), correction=0)], dim=1)

    with recording(heard, keep) as kept:
        yield lambda: torch.cat(list(map(dict(kept).get, heard)), dim=1).float().cpu().numpy()


@dataclass
class Familiarity:
    """The features of training images as a distribution; from distance `threshold` on an image is unlike them."""

    parts: dict[str, np.ndarray]
    threshold: float

    @classmethod
    def fit(cls, features: np.ndarray, validation: np.ndarray) -> "Familiarity":
        """Fit features N×D of training images; those of images that training has not seen, M×D, give the threshold."""
        from sklearn.decomposition import PCA  # here: it takes a second to import, and no answer needs it

        mean, scale = features.mean(0), features.std(0)
        # A channel that hardly varies would make rounding errors, which differ between processors, a long way.
        scale = np.maximum(scale, LEAST_SCALE * max(np.median(scale), 1e-6))
        most = min(COMPONENTS, features.shape[1] // 2, len(features) // IMAGES_EACH)
        pca = PCA(max(most, 1), random_state=0, svd_solver="randomized").fit((features - mean) / scale)
        parts = {"mean": mean, "scale": scale, "components": pca.components_, "variances": pca.explained_variance_}
        parts["rest"] = np.array([max(pca.noise_variance_, 1e-8)])
        # as they come back from a file, so that the threshold belongs to what is read
        found = cls({name: np.float64(np.float32(part)) for name, part in parts.items()}, 0.0)
        found.threshold = float(np.quantile(found.distance(validation), 1 - FALSE_ALARMS, method="higher"))
        return found

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance of features N×D from the training images, N: the root of a mean over the D dimensions, so that
        about 1 is usual, whatever the network."""
        standard = (features - self.parts["mean"]) / self.parts["scale"]
        inside = standard @ self.parts["components"].T
        outside = (standard**2).sum(1) - (inside**2).sum(1)
        squares = (inside**2 / self.parts["variances"]).sum(1) + np.maximum(outside, 0) / self.parts["rest"][0]
        return np.sqrt(squares / features.shape[1])

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """Whether each image is unlike the training images, bool N."""
        return self.distance(features) > self.threshold

    def save(self, path: Path) -> dict:
        """Write it to `path`; returns what the card must say of it."""
        with replacing(path) as temporary:
            # safetensors writes the bytes of an array as they lie, whatever its order says
            save_file({name: np.ascontiguousarray(part, np.float32) for name, part in self.parts.items()}, temporary)
            digest = sha256(temporary)
        return {"threshold": self.threshold, "sha256": digest}

    @classmethod
    def load(cls, path: Path, entry: dict) -> "Familiarity":
        """Read it from `path`; raises `DataError` where the card's `entry` is of another file."""
        if not path.is_file() or sha256(path) != entry["sha256"]:
            raise DataError(f"{path}: missing, or its SHA-256 is not that of the card beside it. Fetch both again.")
        return cls({name: part.astype(np.float64) for name, part in load_file(path).items()}, entry["threshold"])


# ---- images that no brain model was trained on: nothing is chosen on them ------------------------------


def photographs() -> list[RawImage]:
    """Tiles of photographs, made grey: their colours would give them away."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for photograph in load_sample_images().images:
        for band in np.array_split(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY), 4):
            tiles += np.array_split(band, 5, axis=1)
    return [RawImage(np.ascontiguousarray(tile)) for tile in tiles]


def noise(cloudy: bool) -> list[RawImage]:
    """Images of noise, each pixel by itself; of cloudy noise the power falls with the square of the frequency."""
    images = np.random.default_rng(0).normal(size=(NOISE, SIDE, SIDE))
    if cloudy:
        frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
        frequency[0, 0] = np.inf
        images = np.fft.irfft2(np.fft.rfft2(images) / frequency, s=(SIDE, SIDE))
    return [RawImage(to_uint8(image)) for image in images]


GENERATED = {
    "photographs, made grey": photographs,
    "white noise": partial(noise, cloudy=False),
    "cloudy noise": partial(noise, cloudy=True),
}


X_RAYS = "X-rays of chests"
FILES = {  # kind of image → files below the data folder, which are measured where they are at hand
    X_RAYS: "chest-xray14/raw/images/*/*",
    "44 classes, T1": "brain-tumor-44c/raw/* T1/*",
    "44 classes, T1 with contrast": "brain-tumor-44c/raw/* T1C+/*",
    "44 classes, T2": "brain-tumor-44c/raw/* T2/*",
    "navoneel, tumours": "navoneel/raw/yes/*",
    "navoneel, no tumour": "navoneel/raw/no/*",
}


def files(pattern: str) -> list[Path]:
    """At most `MOST` of the files that a pattern below the data folder names, drawn by a fixed seed."""
    paths = sorted(path for path in catalog.data_root().glob(pattern) if path.is_file())
    return sorted(np.random.default_rng(0).permutation(np.array(paths, dtype=object))[:MOST])


def strangers() -> dict[str, list[RawImage]]:
    """Images of every kind that is at hand."""
    found = {name: make() for name, make in GENERATED.items()}
    for name, pattern in FILES.items():
        for path in files(pattern):
            with suppress(DataError):
                found.setdefault(name, []).extend(Scan(path.name, IMAGE, (path,)).read().raws)
    return found
