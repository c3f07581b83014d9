"""What every table is compared with: the majority class, and the nearest neighbour on raw pixels.

A network that does not beat the second may have learned to recognise pictures, not tumours.
"""

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from datasets.store import PackedImages

PIXELS = 64  # side of the pictures that `baseline` wants


def baseline(kind: str, train: PackedImages, test: PackedImages) -> np.ndarray:
    """Probabilities N×K of a baseline on the images of `test`, classes in the order of `train`'s.

    Args:
        kind: key of `BASELINES`.
        train: a baseline chooses nothing, so give it all images that are not tested, validation included.
    """
    return probabilities(kind, *_pixels(train), _pixels(test)[0], len(train.facts.classes))


def probabilities(kind: str, features: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The same for any features N×D, class indices N and test features M×D: probabilities M×K."""
    classifier = BASELINES[kind]().fit(features, labels)
    out = np.zeros((len(test), classes))
    out[:, classifier.classes_] = classifier.predict_proba(test)  # training may lack a class
    return out


def _pixels(data: PackedImages) -> tuple[np.ndarray, np.ndarray]:
    batch = data.__getitems__(range(len(data)))
    return batch["image"].flatten(1).numpy().astype(np.float32) / 255, batch["label"].numpy()


BASELINES = {
    "majority": lambda: DummyClassifier(strategy="prior"),
    "1-NN": lambda: KNeighborsClassifier(n_neighbors=1, algorithm="brute"),
}
