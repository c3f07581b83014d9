"""The answer about one scan: one verdict, what it rests on, how far to believe it, and warnings; as data and a figure.

The rule of the verdict, which uses nothing but the scan and the card of the model:

- **tumour likely**: the calibrated probability of a tumour reaches the threshold that validation chose, and the model's
  own rule takes a class with a tumour, too. Only here a kind is named.
- **none found**: neither of the two says a tumour, and nothing is outlined.
- **undecided**: they disagree; or the card has no threshold, or no class without a tumour; or the scan is unlike the
  training images, in colour, or by its DICOM tags no MR image of a head.

Of findings each is called by its own threshold, with "finding likely" in place of the first.
"""

import math
import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from datasets.catalog import DataError
from datasets.store.preprocess import crop_box, inside_head, looks_inverted, put_back
from utils.evaluation.saliency import grad_cam
from utils.predict.model import SavedModel
from utils.predict.out_of_distribution import FALSE_ALARMS
from utils.predict.prepare import IMAGE, SEQUENCES, SERIES, VOLUME, Scan, Slices, is_written
from utils.report.weights import NOTE

if TYPE_CHECKING:  # what draws is imported where it does: an answer in words need not wait for it
    from matplotlib.figure import Figure

LIKELY, NONE, UNDECIDED, FINDING = "tumour likely", "none found", "undecided", "finding likely"
LIKELIEST = 3  # findings in a line of a table
MASK_FROM = 0.5  # probability from which a pixel belongs to a mask, as in every evaluation
SHOWN = 6  # slices of a scan in a figure
DRAWN = 1024  # pixels of the longest side of a slice there: millions more would take a minute and gigabytes
LABELS = "labels"  # ending of the label map's name
LINE = 16  # letters an inch of a figure


@dataclass
class Answer:
    """What is said about one scan. Slices of one grey value have no part in it.

    Attributes:
        file, kind: of the `Scan`; model: its name; slices: number of slices that were looked at.
        classes: calibrated probability of each class, the mean over the slices; empty for a segmenter.
        verdict: `LIKELY`, `NONE`, `UNDECIDED` or `FINDING`; because: what it rests on, or why there is none; named: the
            kind of tumour, or the findings, "" unless they are likely.
        findings: of each its `threshold`, chosen on validation, and whether its probability is `above`; None where
            there is none.
        tumour: `probability` and `threshold` (that validation chose, or None); None where the model does not know it.
        masks: of each its `pixels`, summed over slices, and `slices`, how many it is in; `area_mm2`, where it is
            largest, and `volume_ml`, None where the files do not say how long a pixel or how far apart slices are.
        unlike: `distance`, in units of the threshold, of the median slice from the training images, and whether it is
            beyond it (`found`); None where the model knows nothing of its training images.
        warnings: sentences; about: see `saved_models.about`; written: paths of its figure and masks.
    """

    file: str
    kind: str
    model: str
    slices: int
    verdict: str = UNDECIDED
    because: str = ""
    named: str = ""
    calibrated: bool = False
    classes: dict[str, float] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    tumour: dict[str, Any] | None = None
    masks: dict[str, dict[str, Any]] = field(default_factory=dict)
    unlike: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    note: str = NOTE

    def row(self) -> dict[str, str]:
        """A line of a table."""
        row = {"file": self.file, "verdict": self.headline()}
        if self.findings:
            likeliest = sorted(self.classes, key=self.classes.get, reverse=True)[:LIKELIEST]
            row["likeliest"] = ", ".join(f"{name} {100 * self.classes[name]:.1f} %" for name in likeliest)
        else:
            row |= {name: f"{100 * p:.1f} %" for name, p in self.classes.items()}
        if self.masks:
            row["outlined"] = self.outlined() or "nothing"
        unlike = self.unlike["found"] if self.unlike else None
        row["unlike training?"] = {None: "unknown", True: "YES", False: "no"}[unlike]
        return row | {"because": self.because}

    def headline(self) -> str:
        """The verdict, and what is named with it."""
        return f"{self.verdict}: {self.named}" if self.named else self.verdict

    def outlined(self) -> str:
        """The size of each mask that marks anything."""
        return ", ".join(f"{name} {_size(part, self.slices)}" for name, part in self.masks.items() if part["pixels"])


def _size(mask: dict[str, Any], slices: int) -> str:
    """The size of a mask in words, in pixels and, where they are known, in mm² and ml."""
    said, area, volume = f"{mask['pixels']:,} px", mask["area_mm2"], mask["volume_ml"]
    if area is not None:
        said += f", {area:,.0f} mm²{' in its largest slice' if slices > 1 else ''}"
    return said if volume is None else f"{said}, {volume:,.1f} ml"


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
    answer = Answer(scan.name, scan.kind, model.name, len(slices.images), about=model.about)
    masks = predicted = mean = None
    if model.masks:
        masks = [_placed(model, *both) * inside_head(both[0]) for both in zip(slices.images, found.masks, strict=True)]
        areas = np.array([(mask > MASK_FROM).sum((1, 2)) for mask in masks])
        for k, name in enumerate(model.masks):
            part = {"pixels": int(areas[:, k].sum()), "slices": int((areas[:, k] > 0).sum())}
            pixel = slices.spacing[1] * slices.spacing[2]
            sizes = areas[:, k].max() * pixel, part["pixels"] * pixel * slices.spacing[0] / 1000
            part["area_mm2"], part["volume_ml"] = (None if math.isnan(size) else round(size, 3) for size in sizes)
            answer.masks[name] = part
        scores = areas.sum(1)
    if model.classes:
        probabilities = model.calibrated(found.probabilities)
        predicted, scores = model.decide(probabilities), probabilities.max(1)
        if model.healthy is not None:
            scores = 1 - probabilities[:, model.healthy]
        mean = probabilities.mean(0)
    if model.familiarity:
        distance = float(np.median(model.familiarity.distance(found.features))) / model.familiarity.threshold
        answer.unlike = {"distance": round(distance, 3), "found": distance > 1}
    strange = "" if model.findings else slices.strange
    other = "a colour image" if slices.colour else f"its DICOM tags say {strange}" if strange else ""
    if other:
        answer.unlike = (answer.unlike or {"distance": None}) | {"found": True}
    _judge(answer, model, mean, other)
    _warn(answer, model, slices, strange)
    return Asked(answer, slices, masks, pixels, predicted, scores)


def _placed(model: SavedModel, image: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Planes M×S×S of what the network saw of an image, at the image's own size M×H×W; 0 outside the crop."""
    box = crop_box(image, model.preparation.crop)
    return np.stack([put_back(plane, box, image.shape) for plane in planes])


def _judge(answer: Answer, model: SavedModel, mean: np.ndarray | None, other: str) -> None:
    """Fill in the verdict, by the rule above, and what it follows from: mean probabilities K, of a segmenter None;
    `other`: why the scan is of another kind, "" where nothing says so."""
    called, named, why = None, [], "the model has no threshold from validation"
    if mean is None:
        why = "the model outlines, and was not tested on whether there is a tumour at all"
    else:
        answer.calibrated = bool(model.temperature)
        answer.classes = {name: round(float(p), 5) for name, p in zip(model.classes, mean, strict=True)}
    if model.findings:
        for name, p in answer.classes.items():
            threshold = model.thresholds[name]
            answer.findings[name] = {"threshold": threshold, "above": None if threshold is None else p >= threshold}
        above = [entry["above"] for entry in answer.findings.values()]
        named = [name for name, entry in answer.findings.items() if entry["above"]]
        if named or None not in above:
            called, why = bool(named), "each finding by its own threshold"
    elif mean is not None and model.healthy is None:
        why = "the model knows no images without a tumour; its probabilities hold if there is one"
    elif mean is not None:
        tumour, taken = float(1 - mean[model.healthy]), int(model.decide(mean[None])[0])
        answer.tumour = {"probability": round(tumour, 5), "threshold": model.threshold}
        if model.threshold is not None:
            called = tumour >= model.threshold
            why = f"probability of a tumour {100 * tumour:.1f} %, threshold {100 * model.threshold:.1f} %"
            if called != (taken != model.healthy):
                says = "there is none" if called else "there is a tumour"
                called, why = None, f"its likeliest class says that {says}, its threshold does not: {why}"
            elif not called and any(part["pixels"] for part in answer.masks.values()):
                called, why = None, f"it outlines something, though it calls no tumour: {why}"
            named = [model.classes[taken]] if len(model.classes) > 2 else []  # of two classes the other is no kind
    if answer.unlike and answer.unlike["found"]:
        called, why = None, other or "unlike the training images"
    likely = FINDING if model.findings else LIKELY
    answer.verdict, answer.because = {None: UNDECIDED, False: NONE, True: likely}[called], why
    answer.named = ", ".join(named) if called else ""


def _warn(answer: Answer, model: SavedModel, slices: Slices, strange: str) -> None:
    says = answer.warnings.append
    if slices.colour:
        says("This is a colour image, and the training images are grey.")
    elif strange:
        says(f"Its DICOM tags say {strange}; the model knows MR images of heads alone.")
    elif answer.unlike and answer.unlike["found"]:
        alarms = f"{100 * model.card['familiarity'].get('false_alarms', FALSE_ALARMS):.0f} %"
        says(f"This is unlike the images that the model was trained on, as are {alarms} of images of their own kind.")
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


def _small(image: np.ndarray) -> np.ndarray:
    """An image of at most `DRAWN` pixels a side, more than a figure can show of one."""
    scale = min(1, DRAWN / max(image.shape[:2]))
    size = [max(round(scale * side), 1) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def draw(model: SavedModel, asked: Asked) -> "Figure":
    """The slices that the answer rests on most, as read, each with its heat map or outlines below.

    Heat maps are Grad-CAM of the predicted class: they illustrate and prove nothing.
    """
    from utils.report.figures.common import LETTERS, PAGE, PALETTE, below, heat_on_image, panels, plain

    answer, slices = asked.answer, replace(asked.slices, images=[_small(image) for image in asked.slices.images])
    chosen = np.sort(np.argsort(-asked.scores, kind="stable")[:SHOWN])
    columns = max(2, len(chosen))  # one slice lies beside its answer, several above theirs
    figure, axes = panels(2 * len(chosen) // columns, columns, 6.2 if len(chosen) > 1 else 4, max(PAGE, 2.4 * columns))
    axes = axes.reshape(2, -1)
    for line in axes:
        for axis, i in zip(line, chosen, strict=True):
            axis.set(xticks=[], yticks=[], title=f"slice {slices.numbers[i]}" if slices.total > 1 else "")
            axis.imshow(_first(slices.images[i]), cmap="gray")
    axes[0, 0].set_ylabel("as read")
    if asked.masks is None:
        axes[1, 0].set_ylabel(
            f"Grad-CAM of the\n{'likeliest finding' if model.findings else 'predicted class'}:\nproves nothing"
        )
        x = model.task.inputs({"image": asked.pixels[chosen]})
        heat = grad_cam(model.network, x, torch.from_numpy(asked.predicted[chosen]), model.task.scores)
        for axis, i, planes in zip(axes[1], chosen, heat[:, None], strict=True):
            axis.imshow(heat_on_image(_first(slices.images[i]), _placed(model, slices.images[i], planes)[0]))
    else:
        axes[1, 0].set_ylabel("outlined")
        for name, colour in zip(model.masks, PALETTE[1:], strict=False):
            axes[1, 0].plot([], [], color=colour, label=plain(name))
        for axis, i in zip(axes[1], chosen, strict=True):
            for mask, colour in zip(map(_small, asked.masks[i]), PALETTE[1:], strict=False):
                if (mask > MASK_FROM).any():
                    axis.contour(mask, [MASK_FROM], colors=colour, linewidths=1)
    file = answer.file if len(answer.file) < 48 else "…" + answer.file[-47:]
    said = [f"{file}: {answer.headline()}", answer.because, answer.outlined(), *answer.about, answer.note]
    lines = [line for text in said for line in textwrap.wrap(text, int(LINE * figure.get_figwidth()))]
    figure.suptitle(plain("\n".join(lines)), fontsize=LETTERS)
    return below(figure, axes[1, 0])


def write(model: SavedModel, scan: Scan, asked: Asked, folder: Path) -> None:
    """Write the figure; of a volume each mask and one label map of all, in which the first mask is 1; and of a DICOM
    series its masks as DICOM SEG: below `folder` by the name of the scan; the answer names them. Raises `DataError`
    where a file of somebody else would be replaced."""
    import matplotlib.pyplot as plt

    def place(end: str) -> Path:
        path = folder / f"{scan.name}{end}"
        if path.exists() and not is_written(path):
            raise DataError(f"{path}: is there, and no answer wrote it; name another folder for --output")
        return path

    paths = [place(".png")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    figure = draw(model, asked)
    figure.savefig(paths[0], metadata={"Description": asked.answer.note})
    plt.close(figure)
    if asked.masks is not None and scan.kind in (VOLUME, SEQUENCES):
        names, shape = (*model.masks, LABELS), asked.masks[0][0].shape
        whole = np.zeros((len(names), asked.slices.total, *shape), np.uint8)  # also slices not looked at
        for number, masks in zip(asked.slices.numbers, asked.masks, strict=True):
            labels = (masks.argmax(0) + 1) * (masks.max(0) > MASK_FROM)  # where masks overlap the surest
            whole[:, number] = [*(masks > MASK_FROM), labels]
        legend = ", ".join(f"{k} {name}" for k, name in enumerate(model.masks, 1))
        for name, voxels in zip(names, whole, strict=True):
            volume = scan.as_volume(voxels)
            says = f"{legend}. {asked.answer.note}" if name == LABELS else asked.answer.note
            volume.header["descrip"] = says.encode()[:79]
            paths.append(place(f"-{name}.nii.gz"))
            nib.save(volume, paths[-1])
    if asked.masks is not None and scan.kind == SERIES:
        from utils.predict.dicom_seg import TOO_LITTLE, write_seg

        try:
            path = place("-masks.dcm")
            write_seg(path, model, scan.files, asked.slices, [mask > MASK_FROM for mask in asked.masks])
            paths.append(path)
        except TOO_LITTLE as error:
            asked.answer.warnings.append(f"No DICOM SEG was written, for which its files say too little ({error}).")
    asked.answer.written = [str(path) for path in paths]
