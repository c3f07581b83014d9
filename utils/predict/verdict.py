"""The answer about one scan: probabilities or masks, how far to believe them, and warnings; as data and as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from datasets.catalog import DataError
from datasets.store.preprocess import crop_box, looks_inverted
from utils.evaluation.saliency import grad_cam
from utils.predict.model import SavedModel
from utils.predict.prepare import IMAGE, SEQUENCES, VOLUME, Scan, Slices
from utils.report.figures.images import heat_on_image
from utils.report.weights import NOTE
from utils.training.tasks import MultiTask

LIKELIEST = 3  # findings in a line of a table
MASK_FROM = 0.5  # probability from which a pixel belongs to a mask, as in every evaluation
SHOWN = 6  # slices of a scan in a figure
OUTLINES = ((230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115))  # Okabe and Ito's, of masks in their order
DPI = 110


@dataclass
class Answer:
    """What is said about one scan. Slices of one grey value have no part in it.

    Attributes:
        file, kind: of the `Scan`; models: names; slices: number of slices that were looked at.
        classes: calibrated probability of each class, the mean over slices and models; empty for a segmenter.
        answer: the class that the rule of the first model takes for `classes`: the likeliest; of a hierarchical model
            "no tumour" where p(tumour) is below .5, else the likeliest kind. Of a model of findings those called.
        findings: of each its `threshold`, chosen on validation, and whether it is `found`; None where there is none.
        tumour: `probability`, `threshold` (that validation chose, or None), `found`, and `slice`, the number of the
            slice with the highest probability; None where the model does not know it.
        masks: of each its `pixels`, summed over slices, and `slices`, how many it is in.
        unlike: `distance`, `threshold` and `found` (of the median slice), and `share` of slices beyond the threshold;
            None where a model knows nothing of its training images.
        warnings: sentences; written: paths of its figure and masks.
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

    def row(self) -> dict[str, str]:
        """A line of a table."""
        row = {"file": self.file}
        if self.classes:
            row["answer"] = self.answer
        if self.findings:
            likeliest = sorted(self.classes, key=self.classes.get, reverse=True)[:LIKELIEST]
            row["likeliest"] = ", ".join(f"{name} {100 * self.classes[name]:.1f} %" for name in likeliest)
        else:
            row |= {name: f"{100 * p:.1f} %" for name, p in self.classes.items()}
        if self.masks:
            found = [f"{name} {part['pixels']:,} px" for name, part in self.masks.items() if part["pixels"]]
            row["outlined"] = ", ".join(found) or "nothing"
        if self.tumour:
            row["tumour?"] = {None: "–", True: "yes", False: "no"}[self.tumour["found"]]
        unlike = self.unlike["found"] if self.unlike else None
        return row | {"unlike training?": {None: "unknown", True: "YES", False: "no"}[unlike]}


@dataclass(frozen=True)
class Asked:
    """An answer with what figures show: `masks`, probabilities of each slice at its own size M×H×W; `pixels`, the
    network's input N×C×S×S; `predicted`, the class of each slice; `scores`, by which some slices are shown first."""

    answer: Answer
    slices: Slices
    masks: list[np.ndarray] | None
    pixels: Tensor
    predicted: np.ndarray | None
    scores: np.ndarray


def require_alike(models: Sequence[SavedModel]) -> None:
    """Raise `DataError` where models cannot answer together."""
    asked = {(*m.classes, *m.masks, *m.preparation.channels): m.name for m in models}
    if len(asked) > 1:
        one, other, *_ = asked.items()
        raise DataError(f"{one[1]} and {other[1]} answer different questions ({one[0]}, {other[0]}); ask one by one")


def ask(models: Sequence[SavedModel], scan: Scan) -> Asked:
    """Read a scan and ask all models; several are averaged. Raises `DataError` where it cannot be read, or an output is
    not finite."""
    slices, first = scan.read(), models[0]
    pixels = [model.prepare(slices.raws) for model in models]
    found = [model.predict(part) for model, part in zip(models, pixels, strict=True)]
    answer = Answer(scan.name, scan.kind, [model.name for model in models], len(slices.images))
    masks = predicted = None
    if first.masks:
        masks = [
            np.mean([_placed(m, image, p.masks[i]) for m, p in zip(models, found, strict=True)], axis=0)
            for i, image in enumerate(slices.images)
        ]
        areas = np.array([(mask > MASK_FROM).sum((1, 2)) for mask in masks])
        for k, name in enumerate(first.masks):
            answer.masks[name] = {"pixels": int(areas[:, k].sum()), "slices": int((areas[:, k] > 0).sum())}
        scores = areas.sum(1)
    if first.classes:
        probabilities = np.mean([m.calibrated(p.probabilities) for m, p in zip(models, found, strict=True)], axis=0)
        predicted, scores = first.decide(probabilities), probabilities.max(1)
        if first.healthy is not None:
            scores = 1 - probabilities[:, first.healthy]
        _name(answer, models, probabilities, slices)
    if all(model.familiarity for model in models):  # in units of each model's own threshold, to be averaged
        known = zip([model.familiarity for model in models], found, strict=True)
        relative = np.mean([f.distance(prediction.features) / f.threshold for f, prediction in known], axis=0)
        median = float(np.median(relative))
        answer.unlike = {"distance": round(median, 3), "threshold": 1.0, "found": median > 1}
        answer.unlike["share"] = round(float((relative > 1).mean()), 3)
    _warn(answer, slices)
    return Asked(answer, slices, masks, pixels[0], predicted, scores)


def _placed(model: SavedModel, image: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Planes M×S×S of what the network saw of an image, at the image's own size M×H×W; 0 outside the crop."""
    top, bottom, left, right = crop_box(image, model.preparation.crop)
    whole = np.zeros((len(planes), *image.shape[:2]), np.float32)
    for k, plane in enumerate(planes):
        whole[k, top:bottom, left:right] = cv2.resize(plane, (right - left, bottom - top))  # bilinear
    return whole


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _name(answer: Answer, models: Sequence[SavedModel], probabilities: np.ndarray, slices: Slices) -> None:
    """Fill in what follows from probabilities N×K: the classes, whether there is a tumour, or the findings called."""
    first, mean = models[0], probabilities.mean(0)
    answer.calibrated = all(model.temperature for model in models)
    answer.classes = {name: round(float(p), 5) for name, p in zip(first.classes, mean, strict=True)}
    if first.healthy is not None:
        threshold, tumour = _mean_or_none([model.threshold for model in models]), float(1 - mean[first.healthy])
        found = None if threshold is None else tumour >= threshold
        answer.tumour = {"probability": round(tumour, 5), "threshold": threshold, "found": found}
        answer.tumour["slice"] = slices.numbers[int((1 - probabilities[:, first.healthy]).argmax())]
    if not first.findings:
        answer.answer = first.classes[first.decide(mean[None])[0]]
        return
    for name, probability in answer.classes.items():  # called at or above the mean of the models' thresholds
        threshold = _mean_or_none([model.thresholds[name] for model in models])
        found = None if threshold is None else probability >= threshold
        answer.findings[name] = {"threshold": threshold, "found": found}
    called = [name for name, entry in answer.findings.items() if entry["found"]]
    answer.answer = ", ".join(called) or "no finding"
    if all(entry["found"] is None for entry in answer.findings.values()):
        answer.answer = "undecided, the model has no thresholds"


def _warn(answer: Answer, slices: Slices) -> None:
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
    if answer.kind != IMAGE and answer.classes:
        says("The model was trained and evaluated on single slices; the mean over the slices of a scan was not.")


def draw(model: SavedModel, asked: Asked) -> Figure:
    """The slices that the answer rests on most, as read, each with its heat map or outlines below.

    Heat maps are Grad-CAM of the predicted class, of the first model asked: they illustrate and prove nothing.
    """
    answer, slices = asked.answer, asked.slices
    chosen = np.sort(np.argsort(-asked.scores, kind="stable")[:SHOWN])
    images = [slices.images[i] for i in chosen]
    shown = [image if image.ndim == 2 else image[..., 0] for image in images]
    if asked.masks is None:
        x, predicted = model.task.inputs({"image": asked.pixels[chosen]}), torch.from_numpy(asked.predicted[chosen])
        layer = None
        if isinstance(model.task, MultiTask):  # the last convolution of all is the decoder's
            layer = [m for m in model.network.encoder.modules() if isinstance(m, nn.Conv2d)][-1]
        heat = grad_cam(model.network, x, predicted, layer, model.task.scores)
        placed = [_placed(model, image, h[None])[0] for image, h in zip(images, heat, strict=True)]
        below = [heat_on_image(i if i.ndim == 2 else i.max(axis=2), h) for i, h in zip(images, placed, strict=True)]
        what = f"Grad-CAM of the {'likeliest finding' if model.findings else 'predicted class'}"
    else:
        below = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB) for image in shown]
        for drawn, i in zip(below, chosen, strict=True):
            for mask, colour in zip(asked.masks[i], OUTLINES, strict=False):
                outline, _ = cv2.findContours(np.uint8(mask > MASK_FROM), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(drawn, outline, -1, colour, max(1, drawn.shape[0] // 256))
        what = "outline of " + ", ".join(model.masks)
    figure, axes = plt.subplots(2, len(chosen), figsize=(max(3.2, 2.4 * len(chosen)), 6.2), squeeze=False)
    for column, i in enumerate(chosen):
        axes[0, column].imshow(shown[column], cmap="gray")
        axes[1, column].imshow(below[column])
        if slices.total > 1:
            axes[0, column].set_title(f"slice {slices.numbers[i]}", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    for line, text in zip(axes[:, 0], ("as read", what), strict=True):
        line.text(0, -0.04, text, transform=line.transAxes, fontsize=8, va="top")
    name = answer.file if len(answer.file) < 48 else "…" + answer.file[-47:]
    said = ", ".join(f"{mask} {part['pixels']:,} px" for mask, part in answer.masks.items())
    if answer.classes:
        share = "" if answer.findings else f", {100 * answer.classes[answer.answer]:.0f} %"
        said = f"{answer.answer}{share}"
    unlike = "\nUNLIKE THE TRAINING IMAGES" if answer.unlike and answer.unlike["found"] else ""
    figure.suptitle(f"{name}: {said}{unlike}", fontsize=9)
    figure.text(0.5, 0.005, answer.note, ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def write(model: SavedModel, scan: Scan, asked: Asked, folder: Path) -> None:
    """Write the figure, and of a volume each mask, below `folder` by the name of the scan; the answer names them."""
    paths = [folder / f"{scan.name}.png"]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    figure = draw(model, asked)
    figure.savefig(paths[0], dpi=DPI, metadata={"Description": asked.answer.note})
    plt.close(figure)
    if asked.masks is not None and scan.kind in (VOLUME, SEQUENCES):
        for k, name in enumerate(model.masks):
            whole = np.zeros((asked.slices.total, *asked.masks[0][k].shape), np.uint8)  # also slices not looked at
            for number, mask in zip(asked.slices.numbers, asked.masks, strict=True):
                whole[number] = mask[k] > MASK_FROM
            volume = scan.as_volume(whole)
            volume.header["descrip"] = asked.answer.note.encode()[:79]
            paths.append(folder / f"{scan.name}-{name}.nii.gz")
            nib.save(volume, paths[-1])
    asked.answer.written = [str(path) for path in paths]


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as an aligned text table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
