"""The answer about one scan: probabilities or masks, how far to believe them, and warnings; as data and as a figure."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from datasets.store.preprocess import crop_box, looks_inverted
from utils.evaluation.saliency import grad_cam
from utils.predict.model import SavedModel
from utils.predict.prepare import IMAGE, SEQUENCES, VOLUME, Scan, Slices
from utils.report.weights import NOTE
from utils.training.tasks import MultiTask

if TYPE_CHECKING:  # what draws is imported where it does: an answer in words need not wait for it
    from matplotlib.figure import Figure

LIKELIEST = 3  # findings in a line of a table
MASK_FROM = 0.5  # probability from which a pixel belongs to a mask, as in every evaluation
SHOWN = 6  # slices of a scan in a figure
DRAWN = 1024  # pixels of the longest side of a slice there: millions more would take a minute and gigabytes


@dataclass
class Answer:
    """What is said about one scan. Slices of one grey value have no part in it.

    Attributes:
        file, kind: of the `Scan`; model: its name; slices: number of slices that were looked at.
        classes: calibrated probability of each class, the mean over the slices; empty for a segmenter.
        answer: the class that the model's rule takes for `classes`: the likeliest; of a hierarchical model "no tumour"
            where p(tumour) is below .5, else the likeliest kind. Of a model of findings those called.
        findings: of each its `threshold`, chosen on validation, and whether it is `found`; None where there is none.
        tumour: `probability`, `threshold` (that validation chose, or None) and `found`; None where the model does not
            know it.
        masks: of each its `pixels`, summed over slices, and `slices`, how many it is in.
        unlike: `distance`, in units of the threshold, of the median slice from the training images, and whether it is
            beyond it (`found`); None where the model knows nothing of its training images.
        warnings: sentences; written: paths of its figure and masks.
    """

    file: str
    kind: str
    model: str
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
            row["outlined"] = self.outlined() or "nothing"
        if self.tumour:
            row["tumour?"] = {None: "–", True: "yes", False: "no"}[self.tumour["found"]]
        unlike = self.unlike["found"] if self.unlike else None
        return row | {"unlike training?": {None: "unknown", True: "YES", False: "no"}[unlike]}

    def outlined(self) -> str:
        """The pixels of each mask that has any."""
        return ", ".join(f"{name} {part['pixels']:,} px" for name, part in self.masks.items() if part["pixels"])


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


def ask(model: SavedModel, scan: Scan) -> Asked:
    """Read a scan and ask the model. Raises `DataError` where it cannot be read, or an output is not finite."""
    slices = scan.read()
    pixels = model.prepare(slices.raws)
    found = model.predict(pixels)
    answer = Answer(scan.name, scan.kind, model.name, len(slices.images))
    masks = predicted = None
    if model.masks:
        masks = [_placed(model, *both) for both in zip(slices.images, found.masks, strict=True)]
        areas = np.array([(mask > MASK_FROM).sum((1, 2)) for mask in masks])
        for k, name in enumerate(model.masks):
            answer.masks[name] = {"pixels": int(areas[:, k].sum()), "slices": int((areas[:, k] > 0).sum())}
        scores = areas.sum(1)
    if model.classes:
        probabilities = model.calibrated(found.probabilities)
        predicted, scores = model.decide(probabilities), probabilities.max(1)
        if model.healthy is not None:
            scores = 1 - probabilities[:, model.healthy]
        _name(answer, model, probabilities.mean(0))
    if model.familiarity:
        distance = float(np.median(model.familiarity.distance(found.features))) / model.familiarity.threshold
        answer.unlike = {"distance": round(distance, 3), "found": distance > 1}
    _warn(answer, slices)
    return Asked(answer, slices, masks, pixels, predicted, scores)


def _placed(model: SavedModel, image: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Planes M×S×S of what the network saw of an image, at the image's own size M×H×W; 0 outside the crop."""
    top, bottom, left, right = crop_box(image, model.preparation.crop)
    whole = np.zeros((len(planes), *image.shape[:2]), np.float32)
    for k, plane in enumerate(planes):
        whole[k, top:bottom, left:right] = cv2.resize(plane, (right - left, bottom - top))  # bilinear
    return whole


def _name(answer: Answer, model: SavedModel, mean: np.ndarray) -> None:
    """Fill in what follows from mean probabilities K: the classes, whether there is a tumour, the findings called."""
    answer.calibrated = bool(model.temperature)
    answer.classes = {name: round(float(p), 5) for name, p in zip(model.classes, mean, strict=True)}
    if model.healthy is not None:
        tumour = float(1 - mean[model.healthy])
        answer.tumour = {"probability": round(tumour, 5)} | _called(tumour, model.threshold)
    if not model.findings:
        answer.answer = model.classes[model.decide(mean[None])[0]]
        return
    answer.findings = {name: _called(p, model.thresholds[name]) for name, p in answer.classes.items()}
    answer.answer = ", ".join(name for name, entry in answer.findings.items() if entry["found"]) or "no finding"
    if all(entry["found"] is None for entry in answer.findings.values()):
        answer.answer = "undecided, the model has no thresholds"


def _called(probability: float, threshold: float | None) -> dict[str, Any]:
    return {"threshold": threshold, "found": None if threshold is None else probability >= threshold}


def _warn(answer: Answer, slices: Slices) -> None:
    says = answer.warnings.append
    if slices.colour:
        answer.unlike = (answer.unlike or {"distance": None}) | {"found": True}
        says("This is a colour image; the training images are grey. The answer means nothing.")
    elif answer.unlike and answer.unlike["found"]:
        says("This is unlike the images that the model was trained on. The answer is probably meaningless.")
    if answer.unlike is None:
        says("The model cannot say whether this is like its training images: it has not been compared with them.")
    if answer.classes and not answer.calibrated:
        says("The probabilities are not calibrated.")
    if sum(looks_inverted(_first(image)) for image in slices.images) > len(slices.images) / 2:
        says("The background is bright: the image may be a negative.")
    if answer.kind != IMAGE and answer.classes:
        says("The model was trained and evaluated on single slices; the mean over the slices of a scan was not.")


def _first(image: np.ndarray) -> np.ndarray:
    """The grey image, or the first of several sequences."""
    return image if image.ndim == 2 else image[..., 0]


def shrunk(asked: Asked) -> Asked:
    """The same with images and masks of at most `DRAWN` pixels a side, more than a figure can show of one."""
    images, masks = list(asked.slices.images), asked.masks and list(asked.masks)
    for i, image in enumerate(images):
        scale = DRAWN / max(image.shape[:2])
        if scale < 1:
            size = max(round(scale * image.shape[1]), 1), max(round(scale * image.shape[0]), 1)
            images[i] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            if masks:
                masks[i] = np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_AREA) for mask in masks[i]])
    return replace(asked, slices=replace(asked.slices, images=images), masks=masks)


def draw(model: SavedModel, asked: Asked) -> "Figure":
    """The slices that the answer rests on most, as read, each with its heat map or outlines below.

    Heat maps are Grad-CAM of the predicted class: they illustrate and prove nothing.
    """
    from utils.report.figures.common import LETTERS, below, heat_on_image, panels, plain
    from utils.report.figures.images import MASK_COLOURS

    asked = shrunk(asked)
    answer, slices = asked.answer, asked.slices
    chosen = np.sort(np.argsort(-asked.scores, kind="stable")[:SHOWN])
    figure, axes = panels(2, len(chosen), 6.2, max(3.2, 2.4 * len(chosen)))
    for line in axes:
        for axis, i in zip(line, chosen, strict=True):
            axis.set(xticks=[], yticks=[], title=f"slice {slices.numbers[i]}" if slices.total > 1 else "")
            axis.imshow(_first(slices.images[i]), cmap="gray")
    axes[0, 0].set_ylabel("as read")
    if asked.masks is None:
        axes[1, 0].set_ylabel(f"Grad-CAM of the {'likeliest finding' if model.findings else 'predicted class'}")
        x, layer = model.task.inputs({"image": asked.pixels[chosen]}), None
        if isinstance(model.task, MultiTask):  # the last convolution of all is the decoder's
            layer = [m for m in model.network.encoder.modules() if isinstance(m, nn.Conv2d)][-1]
        heat = grad_cam(model.network, x, torch.from_numpy(asked.predicted[chosen]), layer, model.task.scores)
        for axis, i, planes in zip(axes[1], chosen, heat[:, None], strict=True):
            axis.imshow(heat_on_image(_first(slices.images[i]), _placed(model, slices.images[i], planes)[0]))
    else:
        axes[1, 0].set_ylabel("outlined")
        for name, colour in zip(model.masks, MASK_COLOURS, strict=False):
            axes[1, 0].plot([], [], color=colour, label=plain(name))
        for axis, i in zip(axes[1], chosen, strict=True):
            for mask, colour in zip(asked.masks[i], MASK_COLOURS, strict=False):
                if (mask > MASK_FROM).any():
                    axis.contour(mask, [MASK_FROM], colors=colour, linewidths=1)
    said = answer.outlined()
    if answer.classes:
        said = answer.answer if answer.findings else f"{answer.answer}, {100 * answer.classes[answer.answer]:.0f} %"
    unlike = "\nUNLIKE THE TRAINING IMAGES" if answer.unlike and answer.unlike["found"] else ""
    file = answer.file if len(answer.file) < 48 else "…" + answer.file[-47:]
    figure.suptitle(plain(f"{file}: {said}{unlike}\n{answer.note}"), fontsize=LETTERS)
    return below(figure, axes[1, 0])


def write(model: SavedModel, scan: Scan, asked: Asked, folder: Path) -> None:
    """Write the figure, and of a volume each mask, below `folder` by the name of the scan; the answer names them."""
    import matplotlib.pyplot as plt

    paths = [folder / f"{scan.name}.png"]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    figure = draw(model, asked)
    figure.savefig(paths[0], metadata={"Description": asked.answer.note})
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
