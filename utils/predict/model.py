"""A saved model that answers about images which no data set holds, and the list of those in `saved_models/`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.catalog import HEALTHY, DataError, lookup
from datasets.store.preprocess import Preparation, RawImage
from utils.evaluation.predict import run_model
from utils.evaluation.segmentation import Padded
from utils.evaluation.thresholds import calibrated
from utils.predict.out_of_distribution import FAMILIARITY, Familiarity, feature_tap
from utils.report.weights import fetch, load_weights
from utils.saved_models import BEST, CARD, HUB, about, best, find_weights, read_card
from utils.training.tasks import TASKS, MultiLabel

BATCH = 32  # slices at a time: memory stays bounded whatever the volume


@dataclass(frozen=True)
class Prediction:
    """What a model says of N images: `probabilities` N×K as its evaluation had them, `masks` N×M×S×S; None what it does
    not give (a classifier that outlines the tumour gives both). `features` N×D, by which `Familiarity` judges."""

    probabilities: np.ndarray | None
    masks: np.ndarray | None
    features: np.ndarray


class SavedModel:
    """A network with its card, from a folder or from the weights in it.

    Attributes:
        name: of the run that made it; card: what lies beside its weights.
        classes, masks: names of the outputs; empty what it does not give.
        preparation: what is done to an image, `Preparation`; about: how far to believe it, see `about`.
        healthy: index of the class without a tumour, None where there is none.
        findings: whether `classes` are findings, any number of which an image may show, each with its own probability.
        thresholds, threshold, temperature: what validation chose, None where nothing was: from which probability on a
            finding, or calibrated probability on a tumour, is called; and what calibrates probabilities.

    Raises `DataError`: weights and card missing, damaged or not of one another, or a task without a prediction.
    """

    def __init__(self, path: Path):
        self.network = load_weights(path)  # it has found card and weights to be of one another
        self.folder = path if path.is_dir() else path.parent
        self.card: dict[str, Any] = read_card(self.folder / CARD)
        self.name = self.folder.resolve().name
        try:
            self.preparation = Preparation.of_card(self.card["input"])
            self.task = lookup(TASKS, self.card["task"], "task").from_card(self.card)
            self.about = about(self.card)
        except DataError as error:
            raise DataError(f"{self.folder / CARD}: {error}") from error
        self.classes: list[str] = self.card.get("classes", [])
        self.masks: list[str] = self.card.get("masks", [])
        if getattr(self.task, "outline", False):
            self.masks = ["tumour"]  # of any kind
        self.healthy = self.classes.index(HEALTHY) if HEALTHY in self.classes else None
        self.findings = isinstance(self.task, MultiLabel)
        thresholds = self.card.get("thresholds", {})
        self.thresholds = {name: thresholds.get(name) for name in self.classes} if self.findings else {}
        chosen = self.card.get("calibration", {})
        self.temperature, self.threshold = chosen.get("temperature"), chosen.get("threshold")

    @cached_property
    def familiarity(self) -> Familiarity | None:
        """Knows whether an image is like those of the training; None where the card has no such part."""
        path = self.folder / FAMILIARITY
        return Familiarity.load(path, self.card["familiarity"]) if "familiarity" in self.card else None

    def prepare(self, raws: Sequence[RawImage]) -> Tensor:
        """Images as read → the pixels that the network's task takes, N×C×S×S."""
        return torch.from_numpy(np.stack([self.preparation(raw) for raw in raws]))

    def predict(self, pixels: Tensor) -> Prediction:
        """The prediction for prepared pixels N×C×S×S; raises `DataError` where an output is NaN or infinite."""
        found: list[tuple[np.ndarray, ...]] = []
        network = self.network if self.classes else Padded(self.network)
        batches = ({"image": part} for part in pixels.split(BATCH))
        with feature_tap(self.network) as heard:
            for _, raw in run_model(network, self.task.inputs, batches, name=self.name):
                outputs = [self.task.probabilities(raw).numpy()]
                if self.classes and self.masks:
                    outputs.append(self.task.where(raw)[:, None].numpy())
                found.append((*outputs, heard()))
        *outputs, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Prediction(outputs[0] if self.classes else None, outputs[-1] if self.masks else None, features)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Class indices N of probabilities N×K by the rule of the model's evaluation; of findings the likeliest."""
        return self.task.decide(torch.from_numpy(probabilities)).numpy()

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities at the temperature that validation chose; as they are where none was."""
        return probabilities if self.findings else calibrated(probabilities, self.temperature or 1.0)


def open_model(name: str) -> SavedModel:
    """The model that `name` stands for: `best`, the name of a run in `saved_models/`, a folder of weights and card, or
    `hf-hub:OWNER/NAME`. Raises `DataError` where nothing is, `UnknownName` with the nearest name.
    """
    if name == BEST:
        return SavedModel(best())
    if name.startswith(HUB):
        return SavedModel(fetch(name))
    return SavedModel(Path(name) if os.path.isdir(name) or os.sep in name else find_weights(name).parent)
