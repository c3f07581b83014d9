"""The ways in which a model is asked: an ONNX file, a saved model of ours, a function of somebody else, or a table of
its predictions. Each answers with probabilities in the order of the data set's classes, or not at all.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from datasets.catalog import CATALOG, DataError, lookup
from datasets.reading import one_line
from datasets.store.index import short_digest
from datasets.store.manifest import sha256
from datasets.store.packing import cores
from datasets.store.preprocess import Preparation, RawImage, crop_and_resize
from utils.audit import worker
from utils.audit.images import Images, Shown, image_names
from utils.predict.model import SavedModel

SCALES = {
    "unit": lambda x: x / 255,
    "pm1": lambda x: x / 127.5 - 1,
    "imagenet": lambda x: (x / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
    "raw": lambda x: x,
}
TYPES = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(double)": np.float64}
CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3}
SURE, CLEAR = 0.75, 0.25  # share of known images right in another order, and how many more, to believe it
FAILURES = 5  # in a row from the first image on, after which a function is given up
ROUNDED = 1e-3  # by which a probability may miss 0 or 1: many are written with few digits
SYNONYMS = {folder.lower(): label for facts in CATALOG.values() for folder, label in facts.folders.items()}
SYNONYMS |= dict.fromkeys(("no tumor", "no tumour", "no_tumour", "healthy", "normal"), "notumor")


@dataclass(frozen=True)
class Known:
    """Training images on which a guess is checked: `shown`, their class indices `truth`, and the names of `classes`."""

    shown: Sequence[Shown]
    truth: np.ndarray
    classes: tuple[str, ...]


def class_index(name: str, classes: Sequence[str], where: Path | str) -> int:
    """The index in `classes` of a class as its author calls it, such as "no_tumor" or "Glioma"; `DataError` with the
    nearest name where it is none of them."""
    text = str(name).strip().lower()
    try:
        return lookup({c: k for k, c in enumerate(classes)}, SYNONYMS.get(text, text), "class")
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def class_order(names: Sequence[str] | None, classes: Sequence[str], where: Path | str) -> np.ndarray:
    """The index in `classes` of each of a model's own class names, the same order without names; `DataError` where they
    are not these classes."""
    names = names or classes
    order = [class_index(name, classes, where) for name in names] if len(names) == len(classes) else []
    if len(set(order)) < len(classes):
        raise DataError(f"{where}: its classes are {', '.join(map(str, names))}, not {', '.join(classes)}")
    return np.array(order)


def as_probabilities(outputs: np.ndarray, where: Path | str, logits: bool = False) -> np.ndarray:
    """Outputs N×K as probabilities: softmax of logits, or values from 0 to 1 scaled to sum to 1; `DataError` of others,
    and of NaN."""
    if not np.isfinite(outputs).all():
        raise DataError(f"{where}: gives NaN or infinite values; mend the model, or ask it at another scale")
    if logits:
        return softmax(outputs, axis=1)
    if not within_one(outputs):
        raise DataError(f"{where}: gives values from {outputs.min():.3g} to {outputs.max():.3g}, not probabilities")
    return (outputs.clip(0) + 1e-12) / (outputs.clip(0) + 1e-12).sum(1, keepdims=True)


def within_one(outputs: np.ndarray) -> bool:
    """Whether all values may be probabilities."""
    return bool(outputs.min() >= -ROUNDED and outputs.max() <= 1 + ROUNDED)


def best_order(outputs: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """The class index of each of a model's outputs N×K under which most known images are right, after their share."""
    hits = np.zeros(2 * [outputs.shape[1]])
    np.add.at(hits, (outputs.argmax(1), truth), 1)
    rows, order = linear_sum_assignment(-hits)
    return float(hits[rows, order].sum() / len(truth)), order


def settled_order(outputs: np.ndarray, known: Known, order: np.ndarray, said: bool) -> tuple[np.ndarray, str]:
    """The class index of each of a model's outputs, and a sentence: `order`, which was `said` or is assumed, unless the
    known images show another one clearly."""
    share, best = best_order(outputs, known.truth)
    given = float((order[outputs.argmax(1)] == known.truth).mean())
    named = f"in the order of classes {'that is named' if said else 'assumed here'}"
    right = f"{100 * given:.0f} % of {len(outputs)} known training images are right {named}"
    if share >= SURE and share - given >= CLEAR:
        names = ", ".join(known.classes[k] for k in best)
        return best, f"THE CLASSES ARE IN ANOTHER ORDER: {right}, {100 * share:.0f} % as {names}, which is used."
    doubt = "" if given >= 0.5 else ", few: it may be asked in a wrong way, see --scale, --size and --classes"
    return order, f"{right}{doubt}."


class Door:
    """A way to a model. Each kind has `ask(shown)`: probabilities N×K of images, NaN where there is no answer, which
    `skipped` explains.

    Attributes:
        name; digest: of all that its answers depend on, by which they are kept.
        notes: sentences on how it is asked; about: facts such as its licence.
        skipped: key of an image → why there is no answer.
        probabilities: whether it gives them, or a class alone; changes: whether it can see changed images.
    """

    probabilities, changes = True, True

    def __init__(self, name: str, digest: str, classes: Sequence[str]):
        self.name, self.digest, self.classes = name, digest, classes
        self.notes: list[str] = []
        self.about: dict[str, str] = {}
        self.skipped: dict[tuple[str, str], str] = {}

    def decide(self, probs: np.ndarray) -> np.ndarray:
        """Class indices N of probabilities N×K by the model's own rule."""
        return probs.argmax(1)

    def close(self) -> None:
        """End what it has started."""


class Onnx(Door):
    """An ONNX file. Size, channels and layout stand in its shape; of files that `utils.export` wrote the metadata say
    the rest, of others `size`, `scale` and `names` (None where not given), or a guess on `known` images. Raises
    `DataError` where the file takes no images, or gives no value for each class.
    """

    def __init__(self, path: Path, known: Known, size: int | None, scale: str | None, names: list | None):
        super().__init__(path.stem, "", known.classes)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = cores(), 4
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            facts = self.session.get_modelmeta().custom_metadata_map
            written = {name: json.loads(facts[name]) for name in ("classes", "input") if name in facts}
        except Exception as error:
            raise DataError(f"{path}: not a readable ONNX model ({one_line(error)})") from error
        self.path, self.preparation, names = path, None, names or written.get("classes")
        if len(written) == 2:
            self.preparation = Preparation.of_card(written["input"])
            if not known.shown[0].file:
                self.preparation = replace(self.preparation, crop="none")  # packed images have been cropped before
            size, scale = self.preparation.size, "raw"
        order, tries = class_order(names, self.classes, path), []
        for self.layout, self.scale in [*product(self._layouts(size), [scale] if scale else SCALES)]:  # noqa: B020
            outputs = self._outputs(known.shown)
            share = best_order(outputs, known.truth)[0] if np.isfinite(outputs).all() else -1
            tries.append((share, self.layout, self.scale, outputs))
        _, self.layout, self.scale, outputs = max(tries, key=lambda found: found[0])  # the first of equally good ones
        as_probabilities(outputs, path, logits=True)  # or NaN at every scale
        self.logits = not within_one(outputs)
        self.order, note = settled_order(outputs, known, order, bool(names))
        takes = f"{self.channels} channel(s) of {self.size}×{self.size} pixels, {self.layout}"
        takes += f", {self.batch or 'any number'} at a time, scale '{self.scale}'"
        guess = ", chosen on known images" if len(tries) > 1 else ""
        guess = ", images prepared as its metadata say" if self.preparation else guess
        self.notes += [f"Takes {takes}{guess}; gives {'logits' if self.logits else 'probabilities'}.", note]
        self.digest = f"{sha256(path)} {takes} {self.logits} {self.order.tolist()} {self.preparation}"

    def _layouts(self, size: int | None) -> list[str]:
        """The layouts that fit the input's shape, and all that it says as attributes."""
        entry, *others = self.session.get_inputs()
        shape = entry.shape
        axes = {} if others or len(shape) != 4 else {name: shape[axis] for name, axis in CHANNEL_AXIS.items()}
        layouts = [name for name, channels in axes.items() if channels in (1, 3)]
        layouts = layouts or [name for name, channels in axes.items() if not isinstance(channels, int)]
        if not layouts:
            takes = f"takes {1 + len(others)} input(s), the first of shape {shape}"
            raise DataError(f"{self.path}: {takes}, not images of 1 or 3 channels: another task's model")
        axis = CHANNEL_AXIS[layouts[0]]
        sides = {n for n in (shape[2:] if axis == 1 else shape[1:3]) if isinstance(n, int)}
        if len(sides | ({size} if size else set())) != 1:
            raise DataError(f"{self.path}: takes images of shape {shape}; say the side of square ones by --size")
        self.input, self.type, self.size = entry.name, entry.type, (sides or {size}).pop()
        self.batch = shape[0] if isinstance(shape[0], int) else 0
        self.channels = shape[axis] if isinstance(shape[axis], int) else 3
        return layouts

    def _pixels(self, shown: Sequence[Shown]) -> np.ndarray:
        if self.preparation:
            return np.stack([self.preparation(RawImage(one.image)) for one in shown])
        grey = np.stack([crop_and_resize(one.image, None, self.size) for one in shown])
        pixels = SCALES[self.scale](grey[..., None].repeat(3, axis=3).astype(np.float64))[..., : self.channels]
        return pixels.transpose(0, 3, 1, 2) if self.layout == "NCHW" else pixels

    def _outputs(self, shown: Sequence[Shown]) -> np.ndarray:
        """Outputs N×K as the file gives them."""
        pixels = self._pixels(shown).astype(TYPES.get(self.type, np.float32))
        step, outputs = self.batch or len(pixels), []
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            full = np.concatenate([part, part[-1:].repeat(step - len(part), axis=0)])
            try:
                found = self.session.run(None, {self.input: full})
            except Exception as error:
                raise DataError(f"{self.path}: cannot be run ({one_line(error)}); see --size") from error
            fitting = [output for output in found if np.shape(output) == (step, len(self.classes))]
            if not fitting:
                shapes = ", ".join(str(np.shape(output)) for output in found)
                wanted = f"a value for each of {len(self.classes)} classes ({', '.join(self.classes)})"
                raise DataError(f"{self.path}: gives {shapes} for {step} image(s), not {wanted}: another task's model")
            outputs.append(fitting[0][: len(part)])
        return np.concatenate(outputs).astype(np.float64)

    def ask(self, shown: Sequence[Shown]) -> np.ndarray:
        return as_probabilities(self._outputs(shown), self.path, self.logits)[:, np.argsort(self.order)]


class Saved(Door):
    """A saved model of ours; `files`: whether it gets the publisher's files. `DataError` where it names no class, or
    others than the data set's."""

    def __init__(self, model: SavedModel, classes: Sequence[str], files: bool):
        self.model, self.order = model, class_order(model.classes or model.masks, classes, model.name)
        if not files:
            model.preparation = replace(model.preparation, crop="none")  # packed images have been cropped before
        super().__init__(model.name, f"{model.card['sha256']} {model.preparation} {model.temperature}", classes)
        self.notes.append("A saved model of this repository, asked as its card says.")

    def ask(self, shown: Sequence[Shown]) -> np.ndarray:
        pixels = self.model.prepare([RawImage(one.image) for one in shown])
        return self.model.calibrated(self.model.predict(pixels).probabilities)[:, np.argsort(self.order)]

    def decide(self, probs: np.ndarray) -> np.ndarray:
        return self.order[self.model.decide(probs[:, self.order])]


class Table(Door):
    """Predictions in a CSV file: a column of `images.NAMES`, and `class` or a column of probabilities for each class.

    Raises `DataError`: an image twice, or of none of the sets `at_hand`; one of the `rows` to test missing; no value.
    """

    changes = False

    def __init__(self, path: Path, classes: Sequence[str], at_hand: Sequence[Images], rows: np.ndarray):
        super().__init__(path.stem, sha256(path), classes)
        table, names = image_names(path)
        if (double := names[names.duplicated()]).size:
            raise DataError(f"{path}: {double.iloc[0]} stands there twice; leave one row an image")
        own = {column: column.removeprefix("p_").lower() for column in table}
        own = {column: name for column, name in own.items() if SYNONYMS.get(name, name) in classes}
        self.probabilities = bool(own)
        if own:
            values = table[[*own]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
            if (bad := ~np.isfinite(values).all(1)).any():
                raise DataError(f"{path}: the row of {names[bad].iloc[0]} holds NaN or no number; predict it again")
            order = class_order([*own.values()], classes, path)
            self.values = as_probabilities(values, path)[:, np.argsort(order)]
        elif "class" in table:
            self.values = np.eye(len(classes))[[class_index(name, classes, path) for name in table["class"]]]
        else:
            raise DataError(f"{path}: has no column 'class', nor one for each of {', '.join(classes)}")
        at_home, *_ = places = [images.named_in(names) for images in at_hand]
        if len(unknown := np.setdiff1d(np.arange(len(names)), np.concatenate(places))):
            which = f"{len(unknown)} rows, {names[unknown[0]]} first, name no image of"
            raise DataError(f"{path}: {which} {', '.join(images.name for images in at_hand)}; leave them out")
        if len(missing := rows[at_home[rows] < 0]):
            first = at_hand[0].manifest.path.iloc[missing[0]]
            raise DataError(f"{path}: {len(missing)} of {len(rows)} test images are missing, {first} first; add them")
        self.places = {}
        for images, place in zip(at_hand, places, strict=True):
            self.places |= zip([(images.name, name) for name in images.manifest.path], place, strict=True)
        self.notes.append("Its answers were made elsewhere; nothing here has seen the model.")

    def ask(self, shown: Sequence[Shown]) -> np.ndarray:
        places = np.array([self.places[one.key] for one in shown])
        self.skipped |= {one.key: "not in the table" for one in shown if self.places[one.key] < 0}
        return np.where(places[:, None] >= 0, self.values[places], np.nan)


class Function(Door):
    """A function of somebody else, `package.module:function`, from the path of an image to the name of a class,
    {class: probability}, or probabilities in the order of `names`, which is then checked on `known` images.

    It runs in a process of its own, by the interpreter `python`, that ends where an image takes longer than `seconds`;
    an image on which it fails is skipped. Raises `DataError` where it cannot be imported, or fails on all first images.
    """

    def __init__(self, call: str, known: Known, names: list | None, seconds: float, python: str):
        super().__init__(call.replace(":", "."), "", known.classes)
        self.call, self.seconds, self.command = call, seconds, [python, worker.__file__, call]
        self.order = class_order(names, self.classes, "--classes")
        self.folder, self.process = tempfile.TemporaryDirectory(), None
        self.answered, self.ordered = False, False
        self._start()
        probs = self.ask(known.shown)
        there = np.isfinite(probs[:, 0])
        self.skipped.clear()
        if self.ordered:
            answered = replace(known, truth=known.truth[there])
            self.order, note = settled_order(probs[there][:, self.order], answered, self.order, bool(names))
            self.notes.append(note)
        facts = "; ".join(f"{name}: {value}" for name, value in self.about.items())
        self.notes.insert(0, f"A function, asked in a process of its own. {facts}")
        self.digest += f" {self.order.tolist()}"

    def _start(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self.process = subprocess.Popen(self.command, **pipes, start_new_session=True)
        except OSError as error:
            raise DataError(f"{self.command[0]}: cannot be started ({one_line(error)}); see --python") from error
        ready = self._hear()
        if "error" in ready:
            raise DataError(f"{self.call}: cannot be imported ({ready['error']}); see --python and --seconds")
        self.about = ready["about"]
        self.digest = " ".join([self.call, *(sha256(Path(file)) for file in ready["files"])])

    def _hear(self) -> dict:
        """The next line of the process, or an `error`: the time limit, or its end."""
        ready, *_ = select.select([self.process.stdout], [], [], self.seconds)
        heard = self.process.stdout.readline() if ready else b""
        if not heard.endswith(b"\n"):
            self.close()
            return {"error": "its process ended" if ready else f"no answer within {self.seconds:g} seconds"}
        return json.loads(heard)

    def _answer(self, shown: Shown) -> np.ndarray:
        """Probabilities K; raises `DataError` where there is no answer."""
        if self.process is None:
            self._start()
        path = Path(self.folder.name) / f"image{shown.file.suffix if shown.file else '.png'}"  # which names no class
        path.write_bytes(shown.content)
        with suppress(OSError):  # its process has ended, which `_hear` notices
            self.process.stdin.write(json.dumps(str(path)).encode() + b"\n")
            self.process.stdin.flush()
        heard = self._hear()
        if "error" in heard:
            raise DataError(heard["error"])
        answer, order = heard["answer"], self.order
        if isinstance(answer, str):
            self.probabilities = False
            return np.eye(len(order))[class_index(answer, self.classes, self.call)]
        if isinstance(answer, dict):
            order, answer = class_order([*answer], self.classes, self.call), [*answer.values()]
        elif len(answer) != len(order):
            raise DataError(f"{self.call}: gives {len(answer)} values, not one for each of {len(order)} classes")
        else:
            self.ordered = True
        return as_probabilities(np.array([answer], float), self.call)[0, np.argsort(order)]

    def ask(self, shown: Sequence[Shown]) -> np.ndarray:
        probs = np.full((len(shown), len(self.classes)), np.nan)
        for i, one in enumerate(shown):
            try:
                probs[i] = self._answer(one)
                self.answered = True
            except DataError as error:
                reason = str(error).removeprefix(f"{self.call}: ").replace(f"{self.folder.name}/", "")
                self.skipped[one.key] = reason
                if not self.answered and len(self.skipped) >= FAILURES:
                    self.close()
                    raise DataError(f"{self.call}: fails on each of its first {FAILURES} images ({reason})") from error
        return probs

    def close(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)  # with whatever it has started
            self.process.wait()
            self.process = None


class Kept:
    """Answers of a door, written down at once, so that no image is ever asked about twice, whatever ends the command;
    one that was skipped is asked about again. `folder`: where they lie, a file a digest of a door."""

    def __init__(self, door: Door, folder: Path):
        self.door, self.path = door, folder / f"{hashlib.sha256(door.digest.encode()).hexdigest()[:16]}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, np.ndarray] = {}
        written = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        for line in written.splitlines():
            answer, _, check = line.rpartition(",")
            if check == short_digest(answer.encode()):  # a kill may leave half a line, a disk another digit
                image, *probs = answer.split(",")
                self.answers[image] = np.array(probs, float)

    def ask(self, shown: Sequence[Shown]) -> np.ndarray:
        """As `Door.ask`."""
        if not self.door.changes:
            return self.door.ask(shown)
        new = [one for one in {one.digest: one for one in shown}.values() if one.digest not in self.answers]
        with self.path.open("a", encoding="utf-8") as file:
            for one, probs in zip(new, self.door.ask(new) if new else (), strict=True):
                if np.isfinite(probs).all():
                    self.answers[one.digest] = probs
                    answer = ",".join([one.digest, *map(str, probs.tolist())])
                    file.write(f"{answer},{short_digest(answer.encode())}\n")
        nothing = np.full(len(self.door.classes), np.nan)
        return np.stack([self.answers.get(one.digest, nothing) for one in shown])
