"""The images that a model is asked about: a data set's own, those that another set adds, and changed ones.

Wherever the publisher's files are kept (`raw/` in the folder of a set) they are shown as they are, else the packed
images. A model is never told a file's name or folder, which name the class.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from datasets import catalog, hdf5
from datasets.catalog import HEALTHY, DataError
from datasets.curation.thumbnails import PACKED_SIDE, thumbnail
from datasets.generator import phantom
from datasets.labels import viewed
from datasets.reading import read_table
from datasets.splitting import copies_file, groups_of, make_split
from datasets.store import index
from datasets.store.images import outlined, read_masks
from datasets.store.preprocess import crop_box, decode, put_back
from datasets.transforms import level
from utils.report import load_evidence
from utils.run import Run, output_root

NAMES = ("sha256", "path", "file")  # columns of tables of others that name an image
NEW_SETS = ("navoneel", "sartaj", "brain-tumor-44c", "br35h")
HEALTHY_ONLY = ("brain-tumor-44c",)  # its tumours are of other kinds
OTHER_PATIENTS = 1  # the seed of the phantom that stands for new images
RELATIVES = ("itself in training", "patient or duplicate in training", "copy in training", "no relative in training")
UNRELATED = RELATIVES[-1]
BORDER = 0.04  # of a side, that is cut off besides what lies outside the head
QUALITY = 30  # of a JPEG
COVER = 0.03  # of a side, by which a mask is widened before it covers, and the width of the ring whose mean covers


@dataclass(frozen=True)
class Shown:
    """An image as a model gets it: `image` uint8 H×W, `file` of its publisher where it is unchanged, and `key`, the
    names of its set and its path there."""

    image: np.ndarray
    file: Path | None
    key: tuple[str, str]

    @cached_property
    def content(self) -> bytes:
        """The bytes of its file, or of a PNG."""
        return self.file.read_bytes() if self.file else cv2.imencode(".png", self.image)[1].tobytes()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, or of the pixels."""
        pixels = repr(self.image.shape).encode() + self.image.tobytes()
        return hashlib.sha256(self.content if self.file else pixels).hexdigest()


class Images:
    """The images of a data set in the order of its `manifest`.

    Attributes:
        files: whether the publisher's files are shown; groups: of every image, as splits have them.
        home: where the set lies, by default in the data folder.

    Raises `DataError` where the set is not here.
    """

    def __init__(self, name: str, home: Path | None = None):
        self.name, self.facts, self.home = name, catalog.get(name), home or index.require(name)
        self.manifest = index.read_manifest(name, home)
        self.files = self.facts.layout == "folders" and (self.home / "raw").is_dir()
        self.groups = self.manifest.patient.to_numpy() if home else groups_of(name, self.manifest)

    def show(self, row: int, change: Callable[[np.ndarray, int], np.ndarray] | None = None) -> Shown:
        """The image of a row, changed by `change(image, row)` if that is given."""
        path = self.manifest.path.iloc[row]
        file = self.home / "raw" / path if self.files else None
        image = decode(file) if file else self._packed(row)
        image, file = (change(image, row), None) if change else (image, file)
        return Shown(np.ascontiguousarray(image), file, (self.name, path))

    def _packed(self, row: int) -> np.ndarray:
        with hdf5.opened(self.home / "images.h5", index.check_command(self.name)) as store:
            image = store["image"][int(row)]
        return image if image.ndim == 2 else image[..., self.facts.grey]

    def nearest(self, rows: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each of some rows the correlation with the most alike image of training, by thumbnails, and its label."""
        train = np.flatnonzero(seen)
        small = [np.stack([thumbnail(self._packed(row), PACKED_SIDE).ravel() for row in of]) for of in (rows, train)]
        alike = small[0] @ small[1].T
        return alike.max(1), self.manifest.label.to_numpy()[train[alike.argmax(1)]]

    @cached_property
    def outlined(self) -> np.ndarray:
        """Of every image whether the outline of its tumour is known, bool N; of none where the set has no masks."""
        try:
            return outlined(self.name) & self.manifest.label.ne(HEALTHY).to_numpy()
        except DataError:
            return np.zeros(len(self.manifest), bool)

    def mask(self, row: int) -> np.ndarray:
        """The outlined tumour of an image as it is shown, bool H×W."""
        mask = read_masks(self.name, np.array([row]))[0].any(0).astype(np.uint8)
        if not self.files:
            return mask.astype(bool)
        image = self.show(row).image
        return put_back(mask, crop_box(image, index.packed_by(self.name)[0]), image.shape, nearest=True).astype(bool)

    def named_in(self, names: pd.Series) -> np.ndarray:
        """The place in `names` of the path, SHA-256 or file name of every image of this set, -1 where none of them is
        there. A file name that two images of the set share names neither."""
        place, found = pd.Series(range(len(names)), names), np.full(len(self.manifest), -1)
        file = self.manifest.path.str.rpartition("/")[2]
        file = file.mask(file.duplicated(keep=False))
        for known in (self.manifest.path, self.manifest.sha256, self.manifest.file_sha256, file):
            found = np.maximum(found, known.map(place).fillna(-1).to_numpy(int))
        return found


def image_names(path: Path) -> tuple[pd.DataFrame, pd.Series]:
    """A table about images, and the column of it that names them; `DataError` where there is none."""
    table = read_table(path)
    column = next((name for name in NAMES if name in table), None)
    if column is None:
        raise DataError(f"{path}: no column names the images; add one of {', '.join(NAMES)}")
    return table, table[column]


def trained_on(images: Images, which: str) -> np.ndarray:
    """Of every image of a set whether a model was trained on it, bool N. `which`: "published" (the training folder),
    "all", or the path of a CSV file that names the images; `DataError` where this is no table of images."""
    if which in ("published", "all"):
        return images.manifest.published_split.eq("train").to_numpy() | (which == "all")
    return images.named_in(image_names(Path(which))[1].drop_duplicates()) >= 0


def trained_by(images: Images, card: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Of every image of a set whether a saved model of ours was trained on it, and whether it has seen it at all, in
    training or validation, bool N each. Where its record keeps no validation images, all that it has seen counts as
    trained on. `DataError` where the split that its card names is of another set."""
    run = Run(**{name: value for name, value in card["trained_on"].items() if name != "data"})
    if run.dataset != images.name:
        raise DataError(f"{run.id}: was trained on '{run.dataset}'; name that by --data-set, or say --trained-on")
    split = make_split(run.dataset, run.split, run.fold or 0, test_on=run.test_on, seed=run.seed)
    seen = np.isin(np.arange(len(images.manifest)), np.concatenate([split.train, split.val]))
    evidence = load_evidence()
    validated = evidence.validation(run.id) if run.id in evidence.runs.index else None
    return seen if validated is None else seen & ~images.manifest.path.isin(validated.path).to_numpy(), seen


def relatives(images: Images, rows: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Where training holds a relative of each of some rows, in words, by the committed groups and copies."""
    copies, kin, known = index.SPLITS / copies_file(images.name), set(), set(images.manifest.path[trained])
    for pair in zip(*map(read_table(copies).get, ("path", "copy_path")), strict=True) if copies.is_file() else ():
        kin |= {one for one, other in (pair, pair[::-1]) if other in known}
    copied = images.manifest.path.iloc[rows].isin(kin)
    grouped = np.isin(images.groups[rows], images.groups[np.flatnonzero(trained)])
    return np.select([trained[rows], grouped, copied], RELATIVES[:3], UNRELATED)


def new_images(images: Images, which: str | None) -> tuple[dict[str, tuple[Images, np.ndarray]], dict[str, str]]:
    """What other sets add: name → images and rows that have no relative in the audited set and that the file `which`,
    if it is one, does not name; and why others are left out. Of the phantom: one of other patients."""
    found, left_out = {}, {}
    if images.facts.layout == "generated":
        home = output_root() / "runs/audit" / f"{images.name} of other patients"
        if not (home / "manifest.csv").is_file():  # which is written last
            size = index.packed_by(images.name)[1]
            phantom.generate(home, seed=OTHER_PATIENTS, size=size, patients=40, slices=2)
        other = Images(images.name, home)
        other.name = f"{images.name}, other patients"
        other.manifest["path"] = other.manifest.path.str.replace("/p", "/other-p")  # the same names as in the first
        return {other.name: (other, np.arange(len(other.manifest)))}, {}
    for name in NEW_SETS:
        try:
            other, rows = Images(name), make_split(images.name, "external", test_on=name).test
        except DataError as error:
            reason = str(error).replace(f"{catalog.data_root()}/", "").replace(f"{catalog.REPO}/", "")
            left_out |= {name: reason} if name != images.name else {}
            continue
        if name in HEALTHY_ONLY:
            rows = rows[viewed(other.manifest.label, "tumour").iloc[rows].eq(HEALTHY)]
        seen = np.zeros(len(other.manifest), bool) if which in (None, "published", "all") else trained_on(other, which)
        found[name] = other, rows[~seen[rows]]
    return found, left_out


# ---- changes -------------------------------------------------------------------------------------------


def without_border(image: np.ndarray) -> np.ndarray:
    """The head alone, and a little less: what surrounds it is cut off."""
    top, bottom, left, right = crop_box(image, "margin")
    rows, columns = (max(1, round(BORDER * length)) for length in (bottom - top, right - left))
    return image[top + rows : bottom - rows, left + columns : right - columns]


def as_jpeg(image: np.ndarray) -> np.ndarray:
    """The image after a JPEG file of low quality."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1], cv2.IMREAD_GRAYSCALE)


def covered(image: np.ndarray, mask: np.ndarray, inside: bool = True) -> np.ndarray:
    """The image with the masked tumour, widened by `COVER`, filled with the mean of a ring around it; or with all but
    the tumour filled so."""
    kernel = np.ones(2 * [2 * max(1, round(COVER * min(image.shape))) + 1], np.uint8)
    wide = cv2.dilate(mask.astype(np.uint8), kernel)
    ring = cv2.dilate(wide, kernel).astype(bool) & ~wide.astype(bool)
    fill = image[ring].mean() if ring.any() else image.mean()
    return np.where(wide.astype(bool) == inside, np.uint8(fill), image)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda image: image[:, ::-1],
    "transposed": lambda image: image.T,
    "border cut off": without_border,
    "levelled to one source": level,
    f"JPEG of quality {QUALITY}": as_jpeg,
}
