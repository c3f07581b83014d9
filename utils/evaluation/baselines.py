"""Baselines of every table: the majority class, and the nearest neighbour on raw pixels, for classes or masks.

A network that does not beat the nearest neighbour may have learned to recognise images rather than tumours.
"""

import numpy as np
import pandas as pd
import torch
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from datasets import catalog
from datasets.curation.neighbours import nearest_labels
from datasets.curation.thumbnails import Thumbnails
from datasets.store.images import ImageDataset
from utils.evaluation.classification import prediction_table
from utils.run import NEIGHBOURS


def baseline(kind: str, train: ImageDataset, test: ImageDataset) -> np.ndarray:
    """Probabilities N×K of a baseline on the images of `test`, classes in the order of `train`'s.

    Args:
        kind: key of `BASELINES`.
        train: all images that are not tested, validation included, since a baseline chooses nothing.
    """
    return probabilities(kind, *_pixels(train), _pixels(test)[0], len(train.classes))


def probabilities(kind: str, features: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The same for any features N×D, class indices N and test features M×D: probabilities M×K."""
    classifier = BASELINES[kind]().fit(features, labels)
    out = np.zeros((len(test), classes))
    out[:, classifier.classes_] = classifier.predict_proba(test)  # training may lack a class
    return out


def nearest(train: ImageDataset, test: ImageDataset) -> np.ndarray:
    """Manifest row of the image of `train` that is most like each image of `test`, pixel by pixel.

    Copying its mask is a segmentation without any learning: where it scores well, the test set holds near relatives of
    training images.
    """
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(_pixels(train)[0])
    return train.rows[finder.kneighbors(_pixels(test)[0], return_distance=False)[:, 0]]


def neighbours_findings(train: ImageDataset, test: ImageDataset, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Of each finding, its share among the images of `train` that are most like each image of `test`, pixel by pixel;
    N×K. One neighbour alone would rank with two values only.
    """
    finder = NearestNeighbors(n_neighbors=min(neighbours, len(train)), algorithm="brute").fit(_pixels(train)[0])
    near = finder.kneighbors(_pixels(test)[0], return_distance=False)
    return train.labels.numpy()[near].mean(axis=1)


def nearest_thumbnails(thumbnails: Thumbnails, protocol: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The nearest neighbour on the publisher's whole images, see `curation.neighbours.nearest_labels`.

    Returns:
        the prediction table (`classification.prediction_table`), and of each row whether training holds its group.
    """
    name = thumbnails.table.dataset.iloc[0]
    classes = catalog.get(name).classes
    found, seen = [], []
    for split, labels in nearest_labels(thumbnails, protocol):
        probs = (labels[:, None] == np.array(classes)).astype(float)
        found.append(prediction_table(name, split.test, split.test_groups, classes, probs))
        seen.append(split.seen)
    return pd.concat(found, ignore_index=True), np.concatenate(seen)


def _pixels(data: ImageDataset) -> tuple[np.ndarray, np.ndarray]:
    batch = data.batch(range(len(data)))
    top = torch.iinfo(batch["image"].dtype).max
    return batch["image"].flatten(1).numpy().astype(np.float32) / top, batch["label"].numpy()


BASELINES = {  # by the names in `utils/run.py`
    "majority": lambda: DummyClassifier(strategy="prior"),
    "1-NN": lambda: KNeighborsClassifier(n_neighbors=1, algorithm="brute"),
}
