"""A saved model, ready to answer about images that no data set holds, and what its card says of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.catalog import HEALTHY, DataError
from datasets.reading import read_json
from datasets.store.inputs import Preparation
from datasets.store.preprocess import RawImage
from utils.evaluation.calibration import calibrated
from utils.evaluation.mask_predictions import Padded
from utils.predict.familiarity import FAMILIARITY, Familiarity, FeatureTap
from utils.report.weights import CARD, load_weights
from utils.training.tasks import Classification, MultiLabel, MultiTask, Outlining, Segmentation

TUMOUR = "tumour"
BATCH = 32  # slices at a time: memory stays bounded whatever the volume


@dataclass(frozen=True)
class Prediction:
    """What a model says of N images: `probabilities` N×K as its evaluation had them, `masks` N×M×S×S; None what it does
    not give (a classifier that outlines the tumour gives both). `features` N×D, by which `Familiarity` judges."""

    probabilities: np.ndarray | None
    masks: np.ndarray | None
    features: np.ndarray


class SavedModel:
    """A network with its card.

    Attributes:
        name: of the run that made it; card: what lies beside its weights.
        classes, masks: names of the outputs; empty what it does not give.
        preparation: what is done to an image, `Preparation`.
        familiarity: knows whether an image is like those of the training; None where the card has no such part.

    Raises:
        DataError: weights and card missing, damaged or not of one another, or a task without a prediction.
    """

    def __init__(self, weights: Path):
        self.network = load_weights(weights)  # it has found card and weights to be of one another
        self.folder = Path(weights) if Path(weights).is_dir() else Path(weights).parent
        self.card: dict[str, Any] = read_json(self.folder / CARD)
        self.name = run_name(self.card, self.folder)
        try:
            self.preparation = Preparation.of_card(self.card["input"])
        except DataError as error:
            raise DataError(f"{self.folder / CARD}: {error}") from error
        self.classes: list[str] = self.card.get("classes", [])
        self.masks: list[str] = self.card.get("masks", [])
        self.task = self._task()
        if isinstance(self.task, Outlining) and self.task.outline:
            self.masks = [TUMOUR]  # of any kind
        self.tap = FeatureTap(self.network)

    def _task(self) -> nn.Module:
        arguments = self.card["arguments"]
        if self.card["task"] in ("classification", "transfer"):
            return Classification(len(self.classes), arguments["in_channels"])
        if self.card["task"] == "multitask":
            parts = {name: arguments.get(name, True) for name in ("reconstruct", "hierarchical")}
            return MultiTask(len(self.classes), self.classes.index(HEALTHY), **parts)
        if self.card["task"] == "localisation":
            return Outlining(len(self.classes), arguments["healthy"], outline=arguments.get("outline", True))
        if self.card["task"] == "findings":  # its loss, which knows the training images, has no part in an answer
            return MultiLabel(len(self.classes), torch.zeros(len(self.classes)), 1, arguments["in_channels"])
        if self.card["task"] == "segmentation":
            return Segmentation(len(self.masks))
        raise DataError(f"{self.folder / CARD}: a model of task '{self.card['task']}' has no prediction here yet")

    @property
    def healthy(self) -> int | None:
        """Index of the class without a tumour, where the model knows it."""
        return self.classes.index(HEALTHY) if HEALTHY in self.classes else None

    @property
    def findings(self) -> bool:
        """Whether `classes` are findings, any number of which an image may show, each with its own probability."""
        return isinstance(self.task, MultiLabel)

    @property
    def thresholds(self) -> dict[str, float | None]:
        """The probability from which on each finding is called, chosen on validation; None where none could be."""
        return {name: self.card.get("thresholds", {}).get(name) for name in self.classes} if self.findings else {}

    @property
    def temperature(self) -> float | None:
        """The temperature that validation chose, or None where the model was never calibrated."""
        return self.card.get("calibration", {}).get("temperature")

    @property
    def threshold(self) -> float | None:
        """Calibrated probability of a tumour from which on the answer is "tumour"; None where none was chosen."""
        return self.card.get("calibration", {}).get("threshold")

    @cached_property
    def familiarity(self) -> Familiarity | None:
        path = self.folder / FAMILIARITY
        return Familiarity.load(path, self.card["familiarity"]) if "familiarity" in self.card else None

    def prepare(self, raws: Sequence[RawImage]) -> Tensor:
        """Images as read → the pixels that the network's task takes, N×C×S×S."""
        return torch.from_numpy(np.stack([self.preparation(raw) for raw in raws]))

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> Prediction:
        """The prediction for prepared pixels N×C×S×S.

        Raises:
            DataError: an output is NaN or infinite.
        """
        found: list[tuple[np.ndarray, ...]] = []
        network = self.network if self.classes else Padded(self.network)
        for part in pixels.split(BATCH):
            with self.tap as features:
                raw = network(self.task.inputs({"image": part}))
            outputs = [self.task.probabilities(raw)]
            if self.classes and self.masks:
                outputs.append(self.task.where(raw)[:, None])
            if not all(torch.isfinite(output).all() for output in outputs):
                raise DataError(f"{self.name}: outputs are not finite")
            found.append((*(output.numpy() for output in outputs), features()))
        *outputs, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Prediction(outputs[0] if self.classes else None, outputs[-1] if self.masks else None, features)

    def scores(self, outputs: Any) -> Tensor:
        """What speaks for each class, B×K, in what the network returns: its logits, or what it has in their place."""
        if isinstance(self.task, MultiTask):
            return self.task.probabilities(outputs).clamp_min(1e-12).log()
        return outputs["classes"] if isinstance(self.task, Outlining) else outputs

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Class indices N of probabilities N×K by the rule of the model's evaluation; of findings the likeliest."""
        if isinstance(self.task, MultiTask):
            return self.task.decide(torch.from_numpy(probabilities)).numpy()
        return probabilities.argmax(1)

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities at the temperature that validation chose; as they are where none was."""
        return probabilities if self.findings else calibrated(probabilities, self.temperature or 1.0)


def run_name(card: dict[str, Any], folder: Path) -> str:
    """The name of the run that a card is of: that of its folder."""
    return folder.resolve().name
