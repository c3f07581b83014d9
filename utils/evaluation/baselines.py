"""Baselines of every table: the majority class, the nearest neighbour on raw pixels, and a linear probe.

A network that does not beat the nearest neighbour may have learned to recognise images rather than tumours. A linear
probe is logistic regression on the features of a pretrained network that is not trained at all: a fine-tuned network
that does not beat it has learned nothing from the images that its pretraining did not know.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets import catalog
from datasets.catalog import DataError
from datasets.curation.thumbnails import Thumbnails, nearest_labels
from datasets.store.images import ImageDataset, scaled
from datasets.store.index import read_manifest
from models.backbones import Transfer, build_backbone
from models.heads import Standardised, average_and_maximum
from utils.evaluation.classification import prediction_table
from utils.evaluation.embeddings import pixel_features
from utils.evaluation.predict import outputs, recording
from utils.run import NEIGHBOURS
from utils.training.loop import make_accelerator

STRENGTHS = (1e-4, 1e-3, 1e-2)  # scikit-learn's C, from strong to weak regularisation
BASELINES = {  # by the names in `utils/run.py`
    "majority": lambda: DummyClassifier(strategy="prior"),
    "1-NN": lambda: KNeighborsClassifier(n_neighbors=1, algorithm="brute"),
}


def baseline(kind: str, train: ImageDataset, test: ImageDataset) -> np.ndarray:
    """Probabilities N×K of a baseline (a key of `BASELINES`) on `test`, classes in the order of `train`'s, which is all
    images that are not tested, validation included, since a baseline chooses nothing."""
    classifier = BASELINES[kind]().fit(pixel_features(train), train.labels.numpy())
    return probe_probabilities(classifier, pixel_features(test), len(train.classes))


def nearest(train: ImageDataset, test: ImageDataset) -> np.ndarray:
    """Manifest row of the image of `train` that is most like each image of `test`, pixel by pixel. Where copying its
    mask scores well, the test set holds near relatives of training images."""
    finder = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(pixel_features(train))
    return train.rows[finder.kneighbors(pixel_features(test), return_distance=False)[:, 0]]


def neighbours_findings(train: ImageDataset, test: ImageDataset, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Of each finding, its share among the images of `train` that are most like each image of `test`, pixel by pixel;
    N×K. One neighbour alone would rank with two values only."""
    mean = KNeighborsRegressor(min(neighbours, len(train)), algorithm="brute")
    return mean.fit(pixel_features(train), train.labels.numpy()).predict(pixel_features(test))


def nearest_thumbnails(thumbnails: Thumbnails, protocol: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The nearest neighbour on the publisher's whole images, see `curation.thumbnails.nearest_labels`: the prediction
    table (`classification.prediction_table`), and of each row whether training holds its group."""
    name, found, seen = thumbnails.table.dataset.iloc[0], [], []
    classes = catalog.get(name).classes
    for split, labels in nearest_labels(thumbnails, protocol):
        probs = (labels[:, None] == np.array(classes)).astype(float)
        found.append(prediction_table(name, split.test, split.test_groups, classes, probs))
        seen.append(split.seen)
    return pd.concat(found, ignore_index=True), np.concatenate(seen)


def frozen_features(model: Transfer, data: ImageDataset, precision: str = "no") -> np.ndarray:
    """Average and maximum over all places of a backbone's last map, float32 N×2C, in the order of `data`; its head is
    not used. `precision`: see `predict.run_model`."""

    with recording([model.map], lambda layer, inputs, maps: average_and_maximum(maps.float()).cpu()) as kept:
        for _ in outputs(model, lambda batch: scaled(batch["image"]), data, 32, precision):
            pass
    return torch.cat(kept).numpy()


def pretrained_features(name: str, backbone: str, weights: str, image_size: int, precision: str = "no") -> np.ndarray:
    """`frozen_features` of all images of data set `name`; `weights`: a file, or "imagenet" for those of the hub."""
    network = build_backbone(backbone, pretrained=weights == "imagenet" or weights, image_size=image_size)
    every = ImageDataset(name, np.arange(len(read_manifest(name))), image_size=image_size)
    return frozen_features(network.to(make_accelerator().device), every, precision)


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Pipeline, Pipeline, dict[float, float]]:
    """Logistic regression on standardised features; validation chooses the regularisation.

    `features` N×D and `labels` N are of the training set, likewise of validation; `strengths` are the C that are tried.

    Returns:
        The probe, fitted on training and validation set with the C chosen (of equally good ones the smallest); the one
        fitted on the training set alone, which can be asked about the validation set; and the accuracy there by C.
    """
    of_c = {c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)) for c in strengths}
    alone = {c: clone(probe).fit(features, labels) for c, probe in of_c.items()}
    accuracy = {c: float(probe.score(val_features, val_labels)) for c, probe in alone.items()}
    best = max(strengths, key=lambda c: (accuracy[c], -c))
    together = np.concatenate([features, val_features]), np.concatenate([labels, val_labels])
    return of_c[best].fit(*together), alone[best], accuracy


def start_from_probe(model: Transfer, train: ImageDataset, val: ImageDataset, precision: str = "no") -> float:
    """Give `model`, in place, the head that a linear probe has found: linear probing, then fine-tuning (Kumar et al.,
    ICLR 2022, arXiv:2202.10054). `val` chooses the regularisation, and is not fitted.
    Returns the validation accuracy of the probe, which is that of `model` now.

    Raises `DataError`: another head than "standardised", or training images that lack a class.
    """
    if not isinstance(model.head, Standardised):
        raise DataError("this head cannot start as a linear probe: 'standardised' can")
    of = [(frozen_features(model, data, precision=precision), data.labels.numpy()) for data in (train, val)]
    _, (scaler, regression), accuracy = fit_probe(*of[0], *of[1])
    weight, bias = (torch.from_numpy(values).float() for values in (regression.coef_, regression.intercept_))
    if len(weight) == 1:  # scikit-learn keeps one row for two classes, of the second against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    if len(weight) != model.head.out.out_features:
        raise DataError(f"the training images show {len(weight)} of {model.head.out.out_features} classes: no probe")
    with torch.no_grad():
        model.head.out.weight.copy_(weight)
        model.head.out.bias.copy_(bias)
        model.head.mean.copy_(torch.from_numpy(scaler.mean_))
        model.head.scale.copy_(torch.from_numpy(scaler.scale_))
    return max(accuracy.values())


def probe_probabilities(classifier: object, features: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities M×`classes` of a classifier of scikit-learn; a class that its training lacked has 0."""
    probs = np.zeros((len(features), classes))
    probs[:, classifier.classes_] = classifier.predict_proba(features)
    return probs
