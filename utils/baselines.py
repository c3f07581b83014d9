"""What every table is compared with: the majority class, and the nearest neighbour on raw pixels.

A network that does not beat the second may have learned to recognise pictures, not tumours.
"""

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from datasets import catalog
from datasets.store import PackedImages

PIXELS = 64


def _pixels(name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = PackedImages(name, rows, image_size=PIXELS, in_memory=True)
    batch = data.__getitems__(range(len(data)))
    return batch["image"].flatten(1).numpy().astype(np.float32) / 255, batch["label"].numpy()


def _probabilities(classifier, images: np.ndarray, classes: int) -> np.ndarray:
    """N×K in the catalogue's class order, also where the training part lacks a class."""
    out = np.zeros((len(images), classes))
    out[:, classifier.classes_] = classifier.predict_proba(images)
    return out


def baseline(kind: str, name: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities N×K of a baseline on the manifest rows `test`.

    Args:
        kind: key of `BASELINES`.
        name: data set; train, test: manifest rows. A baseline chooses nothing, so it trains on all rows that are
            not tested, validation included.
    """
    classifier = BASELINES[kind]()
    classifier.fit(*_pixels(name, train))
    return _probabilities(classifier, _pixels(name, test)[0], len(catalog.get(name).classes))


BASELINES = {
    "majority": lambda: DummyClassifier(strategy="prior"),
    "1-NN": lambda: KNeighborsClassifier(n_neighbors=1, algorithm="brute"),
}
