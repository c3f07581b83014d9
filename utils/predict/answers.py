"""The answer about one scan: probabilities or masks, how far to believe them, and warnings; as text and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np

from datasets.catalog import DataError
from datasets.store.preprocess import crop_box, looks_inverted
from utils.predict.model import Prediction, SavedModel
from utils.predict.scans import IMAGE, Scan, Slices
from utils.report.weights import NOTE

LIKELIEST = 3  # findings in a line of a table
MASK_FROM = 0.5  # probability from which a pixel belongs to a mask, as in every evaluation


@dataclass
class Answer:
    """What is said about one scan. Slices of one grey value have no part in it.

    Attributes:
        file, kind: of the `Scan`; models: names of those that were asked; slices: number of slices that were looked at.
        classes: calibrated probability of each class, the mean over slices and models; empty for a segmenter.
        answer: the class that the rule of the first model takes for `classes`: the likeliest; of a hierarchical model
            "no tumour" where p(tumour) is below .5, else the likeliest kind, see `multitask.decide`. Evaluations decide
            before calibration, which changes nothing where one model takes the likeliest class of one slice. Of a
            model of findings those that are called.
        findings: of each finding its `threshold`, chosen on validation, and whether it is `found`; both None where
            there is none, empty for other models.
        tumour: `probability`, `threshold` and `found` (at the threshold that validation chose, None without one), and
            `slice`, the number of the slice with the highest probability; None where the model does not know it.
        masks: of each mask that a model outlines its `pixels`, summed over slices, and `slices`, how many it is in.
        unlike: `distance`, `threshold` and `found` (of the median slice), and `share` of slices beyond the threshold;
            None where a model knows nothing of its training images.
        warnings: sentences.
    """

    file: str
    kind: str
    models: list[str]
    slices: int
    calibrated: bool = False
    classes: dict[str, float] = field(default_factory=dict)
    answer: str = ""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    tumour: dict[str, Any] | None = None
    masks: dict[str, dict[str, int]] = field(default_factory=dict)
    unlike: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    note: str = NOTE

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for `json.dumps`."""
        return asdict(self)

    def row(self) -> dict[str, str]:
        """A line of a table."""
        said = {"answer": self.answer} if self.classes else {}
        likeliest = sorted(self.classes, key=self.classes.get, reverse=True)[:LIKELIEST]
        if self.findings:
            said["likeliest"] = ", ".join(f"{name} {100 * self.classes[name]:.1f} %" for name in likeliest)
        else:
            said |= {name: f"{100 * p:.1f} %" for name, p in self.classes.items()}
        if self.masks:
            found = ", ".join(f"{name} {part['pixels']:,} px" for name, part in self.masks.items() if part["pixels"])
            said |= {"outlined": found or "nothing"}
        if self.tumour:
            found = self.tumour["found"]
            said["tumour?"] = "–" if found is None else "yes" if found else "no"
        return {"file": self.file} | said | {"unlike training?": _yes(self.unlike)}


def _yes(unlike: dict[str, Any] | None) -> str:
    return "unknown" if unlike is None else "YES" if unlike["found"] else "no"


@dataclass(frozen=True)
class Asked:
    """An answer with what figures are drawn of: the slices; `masks`, probabilities of each slice at its own size
    M×H×W, or None; `pixels`, the network's input N×C×S×S; `predicted`, the class index of each slice, or None."""

    answer: Answer
    slices: Slices
    masks: list[np.ndarray] | None
    pixels: Any
    predicted: np.ndarray | None
    scores: np.ndarray


def require_alike(models: Sequence[SavedModel]) -> None:
    """Raise `DataError` where models cannot answer together."""
    first = models[0]
    for other in models[1:]:
        if (other.classes, other.masks) != (first.classes, first.masks):
            raise DataError(
                f"{first.name} and {other.name} answer different questions ({first.classes or first.masks} and "
                f"{other.classes or other.masks}); ask one after the other"
            )
        if other.preparation.channels != first.preparation.channels:
            raise DataError(f"{first.name} and {other.name} take different sequences; ask one after the other")


def ask(models: Sequence[SavedModel], scan: Scan) -> Asked:
    """Read a scan and ask all models; several are averaged.

    Raises:
        DataError: the scan cannot be read, or a model gives no finite answer.
    """
    slices = scan.read()
    pixels = [model.prepare(slices.raws) for model in models]
    found = [model.predict(part) for model, part in zip(models, pixels, strict=True)]
    answer = Answer(scan.name, scan.kind, [model.name for model in models], len(slices.images))
    masks = predicted = None
    if models[0].masks:
        placed = [_at_own_size(slices, model, part) for model, part in zip(models, found, strict=True)]
        masks = [np.mean(parts, axis=0) for parts in zip(*placed, strict=True)]
        scores = _describe_masks(answer, models[0].masks, masks)
    if models[0].classes:
        probabilities = np.mean([m.calibrated(p.probabilities) for m, p in zip(models, found, strict=True)], axis=0)
        predicted = models[0].decide(probabilities)
        scores = _describe_classes(answer, models, probabilities, slices)
        if models[0].findings:
            _call_findings(answer, models)
        else:
            answer.answer = models[0].classes[models[0].decide(probabilities.mean(0, keepdims=True))[0]]
    distances = [(model.familiarity, prediction.features) for model, prediction in zip(models, found, strict=True)]
    _compare(answer, distances)
    _warn(answer, scan, slices)
    return Asked(answer, slices, masks, pixels[0], predicted, scores)


def _describe_classes(
    answer: Answer, models: Sequence[SavedModel], probabilities: np.ndarray, slices: Slices
) -> np.ndarray:
    """Fill in the classes from probabilities N×K; returns the score of each slice, by which some are shown first."""
    answer.calibrated = all(model.temperature for model in models)
    mean = probabilities.mean(0)
    answer.classes = {name: round(float(p), 5) for name, p in zip(models[0].classes, mean, strict=True)}
    healthy = models[0].healthy
    if healthy is None:
        return probabilities.max(1)
    tumour = 1 - probabilities[:, healthy]
    thresholds = [model.threshold for model in models]
    threshold = None if None in thresholds else float(np.mean(thresholds))
    probability = float(1 - mean[healthy])
    answer.tumour = {
        "probability": round(probability, 5),
        "threshold": threshold,
        "found": None if threshold is None else probability >= threshold,
        "slice": slices.numbers[int(tumour.argmax())],
    }
    return tumour


def _call_findings(answer: Answer, models: Sequence[SavedModel]) -> None:
    """Which findings are called: those at or above the mean of the models' thresholds."""
    for name, probability in answer.classes.items():
        thresholds = [model.thresholds[name] for model in models]
        threshold = None if None in thresholds else float(np.mean(thresholds))
        found = None if threshold is None else probability >= threshold
        answer.findings[name] = {"threshold": threshold, "found": found}
    called = [name for name, entry in answer.findings.items() if entry["found"]]
    undecided = all(entry["found"] is None for entry in answer.findings.values())
    answer.answer = "undecided, the model has no thresholds" if undecided else ", ".join(called) or "no finding"


def _describe_masks(answer: Answer, names: Sequence[str], masks: Sequence[np.ndarray]) -> np.ndarray:
    areas = np.array([(mask > MASK_FROM).sum((1, 2)) for mask in masks])
    answer.masks = {
        name: {"pixels": int(areas[:, k].sum()), "slices": int((areas[:, k] > 0).sum())} for k, name in enumerate(names)
    }
    return areas.sum(1)


def _at_own_size(slices: Slices, model: SavedModel, prediction: Prediction) -> list[np.ndarray]:
    """The mask probabilities of each slice, M×H×W of that slice; 0 outside the crop."""
    placed = []
    for image, mask in zip(slices.images, prediction.masks, strict=True):
        top, bottom, left, right = crop_box(image, model.preparation.crop)
        whole = np.zeros((len(mask), *image.shape[:2]), np.float32)
        for k, plane in enumerate(mask):
            whole[k, top:bottom, left:right] = cv2.resize(plane, (right - left, bottom - top))  # bilinear
        placed.append(whole)
    return placed


def _compare(answer: Answer, found: Sequence[tuple]) -> None:
    """Fill in whether the scan is unlike the training images: its median slice, for most of the models asked."""
    if any(familiarity is None for familiarity, _ in found):
        return
    # in units of each model's own threshold, so that they can be averaged
    relative = np.mean([f.distance(features) / f.threshold for f, features in found], axis=0)
    answer.unlike = {
        "distance": round(float(np.median(relative)), 3),
        "threshold": 1.0,
        "found": bool(np.median(relative) > 1),
        "share": round(float((relative > 1).mean()), 3),
    }


def _warn(answer: Answer, scan: Scan, slices: Slices) -> None:
    says = answer.warnings.append
    if slices.colour:
        answer.unlike = (answer.unlike or {"distance": None, "threshold": 1.0, "share": 1.0}) | {"found": True}
        says("This is a colour image; the training images are grey. The answer means nothing.")
    elif answer.unlike and answer.unlike["found"]:
        says("This is unlike the images that the model was trained on. The answer is probably meaningless.")
    if answer.unlike is None:
        says("The model cannot say whether this is like its training images: it has not been compared with them.")
    if answer.classes and not answer.calibrated:
        says("The probabilities are not calibrated.")
    if sum(looks_inverted(i if i.ndim == 2 else i.max(axis=2)) for i in slices.images) > len(slices.images) / 2:
        says("The background is bright: the image may be a negative.")
    if scan.kind != IMAGE and answer.classes:
        says("The model was trained and evaluated on single slices; the mean over the slices of a scan was not.")
