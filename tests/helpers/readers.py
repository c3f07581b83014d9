"""Every reader of the project with a small whole file that it reads, for tests that damage the file."""

import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import archives
import lgg_files
import nibabel as nib
import numpy as np
import pandas as pd
import remind_files
import torch
from dicom_files import dicom
from own_images import head
from PIL import Image
from safetensors.torch import save_file
from small_notebook import small_notebook

from datasets import catalog
from datasets.catalog import NO_FINDING, REPO, DataError
from datasets.generator import phantom
from datasets.sources import brats, layouts, own, unpacking
from datasets.sources.own import Given
from datasets.splitting import make_split
from datasets.store import check, manifest
from datasets.store.images import ImageDataset, read_masks
from datasets.store.index import read_manifest, read_splits
from datasets.store.preprocess import RawImage
from models.weights import WeightsError, read_weights
from utils.files import damage, seal
from utils.parameters import read_parameters
from utils.predict.model import SavedModel
from utils.report.records import load_evidence
from utils.report.tables import all_runs

REFUSED = (DataError, WeightsError)  # one line that says what is wrong; anything else is a fault of ours


@dataclass(frozen=True)
class Reader:
    """How a file is made in an empty folder (returns its path), and how it is read there. `sealed`: it holds a
    checksum, so what is read of it, if anything, is what was written."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    sealed: bool = False


def _written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _drawing() -> bytes:
    """A PNG of a few greys, whose changed bits are still pixels more often than those of noise."""
    return archives.encoded(Image.fromarray(head(1, 96) // 32 * 32))


def _pixels(raws: Iterable[RawImage]) -> list:
    """What is read of a file, without the SHA-256 of its bytes: some of these can change and mean the same."""
    return [(raw.image, raw.mask) for raw in raws]


def _layout(name: str, path: str, content: Callable[[], bytes], sealed: bool = False) -> Reader:
    def make(folder: Path) -> Path:
        return _written(folder / path, content())

    return Reader(make, lambda folder: _pixels(layouts.read(catalog.get(name), folder, path)), sealed)


def _of_own(path: str, write: Callable[[Path], object], sealed: bool = False) -> Reader:
    """A file that a reader brings, with a mask of its own form where it is a volume."""

    def make(folder: Path) -> Path:
        _written(folder / "samples.csv", f"image,label\n{path},a\n")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write(folder / path)
        return folder / path

    def read(folder: Path) -> object:
        own.source_of(Given(folder))
        return _pixels(layouts.read(catalog.get("own"), folder, path))

    return Reader(make, read, sealed)


def _nifti(path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 400, (12, 10, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1, 3, 1])), path)


def _dicom(path: Path) -> None:
    dicom(path, np.arange(120, dtype=np.int16).reshape(12, 10), bits=12, RescaleSlope="2", RescaleIntercept="-5")


def _kaggle_slice(folder: Path) -> Path:
    arrays = {"image": np.random.default_rng(0).normal(size=(16, 16, 4)), "mask": np.zeros((16, 16, 3), np.uint8)}
    return _written(folder / "volume_1_slice_0.h5", archives.hdf5(arrays))


def _table(folder: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        _written(folder / name, archives.image(3, 24, "PNG"))
    lines = "image,mask,patient,label\na.png,c.png,anna,glioma\nb.png,c.png,ben,glioma\n"
    return _written(folder / "samples.csv", lines)


def _unpack(folder: Path) -> None:
    dataset = catalog.get("sartaj")
    unpacking.unpack(dataset, folder / "archive.zip", folder / "new/raw")
    layouts.samples(dataset, folder / "new/raw")


@cache
def _store() -> dict[str, bytes]:
    """The files of a small phantom, made once a process."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        phantom.generate(Path(folder), size=64, patients=24, slices=2)
        log = {"name": "phantom", "version": 2, "size": 64, "crop": "none", "broken": [], "images": 56}
        manifest.write_log(Path(folder), log)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _of_store(victim: str, vouched: bool = True) -> Reader:
    """A file of a data set as it is trained on; `vouched`: with the log that holds the digests of the others."""

    def make(folder: Path) -> Path:
        for name, content in _store().items():
            if vouched or name != "log.json":
                _written(folder / "phantom" / name, content)
        return folder / "phantom" / victim

    def read(folder: Path) -> None:
        """`$BRAIN_MRI_DATA` is the folder."""
        check.check("phantom")
        read_manifest("phantom")
        split = make_split("phantom", "patient")
        data = ImageDataset("phantom", split.train[:8], image_size=64, masks=True, channels="all")
        read_masks("phantom", split.test[:4])
        data.identity()

    return Reader(make, read)


def _groups(folder: Path) -> Path:
    lines = ["path,group,patient,label_conflict", *[f"{i}.png,g{i // 2},,False" for i in range(8)]]
    return _written(folder / "own/groups.csv", "\n".join(lines) + "\n")


def _of_evidence(victim: str) -> Reader:
    """A file of a committed run: what is damaged is left out and named, and tables are made of the rest."""
    name = "sartaj.cleaned.CustomCNN.s2-64px.seed0"

    def make(folder: Path) -> Path:
        for run in (name, "sartaj.cleaned.1-NN.none.seed0"):
            place = folder / "classification/sartaj" / run
            shutil.copytree(REPO / "saved_metrics/classification/sartaj" / run, place)
        shutil.copytree(REPO / "saved_metrics/curation", folder / "curation")
        return next(folder.rglob(victim)) if "/" in victim else folder / "classification/sartaj" / name / victim

    def read(folder: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            evidence = load_evidence(folder)
        found: list[object] = [all_runs(evidence).to_csv(), evidence.curation]
        for run in evidence.runs.itertuples():
            found.append(evidence.predictions(run.id))
            if not run.baseline:
                found.append(evidence.history(run.id))
        if evidence.damaged:
            raise DataError("\n".join(evidence.damaged))
        return found

    return Reader(make, read, sealed=True)


def _of_weights(victim: str) -> Reader:
    def make(folder: Path) -> Path:
        shutil.copytree(next(REPO.glob("saved_models/multitask/*/*")), folder / "model")
        return folder / "model" / victim

    return Reader(make, lambda folder: SavedModel(folder / "model").card, sealed=True)


def _backbone(name: str) -> Reader:
    tensors = {f"features.{i}.weight": torch.arange(24.0).reshape(4, 6) + i for i in range(4)}

    def make(folder: Path) -> Path:
        save_file(tensors, folder / name) if name.endswith("safetensors") else torch.save(tensors, folder / name)
        return folder / name

    return Reader(make, lambda folder: read_weights(folder / name))


def _checkpoint(folder: Path) -> Path:
    torch.save({"model": {"w": torch.ones(50)}, "history": [{"epoch": 1}]}, folder / "checkpoint.pt")
    seal(folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def _read_checkpoint(folder: Path) -> bytes:
    if problem := damage(folder / "checkpoint.pt"):
        raise DataError(f"{folder / 'checkpoint.pt'}: {problem}")
    return (folder / "checkpoint.pt").read_bytes()


def _xrays(folder: Path) -> Path:
    lines = ["Image Index,Finding Labels,Patient ID,Patient Age", f"00000001_000.png,{NO_FINDING},1,40"]
    lines += ["00000002_000.png,Mass|Nodule,2,50"]
    for name in ("00000001_000.png", "00000002_000.png"):
        _written(folder / "images/00000" / name, archives.image(3, 24, "PNG"))
    return _written(folder / "sample_labels.csv", "\n".join(lines) + "\n")


def _gliomas(folder: Path) -> Path:
    for name, content in lgg_files.files().items():
        _written(folder / name.removeprefix("kaggle_3m/"), content)
    return folder / "data.csv"


def _remind(kind: str) -> Reader:
    def make(folder: Path) -> Path:
        for patient in range(1, 9):
            (folder / f"ReMIND-{patient:03d}").mkdir()
        return _written(folder / f"clinical.{kind}", remind_files.table(["Glioblastoma"] * 8, kind))

    return Reader(make, lambda folder: layouts.samples(catalog.get("remind"), folder))


READERS = {
    "jpeg": _layout("sartaj", "a.jpg", lambda: archives.image(3, 24, "JPEG")),
    "png": _layout("sartaj", "a.png", _drawing, sealed=True),
    "tiff": _layout("sartaj", "a.tif", lambda: lgg_files.tiff(np.arange(600, dtype=np.uint16).reshape(20, 30))),
    "gif": _layout("sartaj", "a.gif", lambda: archives.image(3, 24, "GIF")),
    "bmp": _layout("sartaj", "a.bmp", lambda: archives.image(3, 24, "BMP")),
    "webp": _layout("sartaj", "a.webp", lambda: archives.image(3, 24, "WEBP")),
    "mat of figshare": _layout("cheng", "1.mat", lambda: archives.mat(1, "100360", 0)),
    "nifti": _of_own("a.nii", _nifti),
    "nifti, compressed": _of_own("a.nii.gz", _nifti, sealed=True),
    "dicom": _of_own("a.dcm", _dicom),
    "slice of Kaggle": Reader(_kaggle_slice, lambda folder: brats.read_slice(folder / "volume_1_slice_0.h5")),
    "table of a reader": Reader(
        _table, lambda folder: (own.read_table(folder / "samples.csv", folder, {}), Given(folder).listing)
    ),
    "archive": Reader(lambda folder: archives.saved(folder, archives.folders("sartaj", 1, 16)), _unpack),
    "table of ChestX-ray14": Reader(_xrays, lambda folder: layouts.samples(catalog.get("chest-xray14"), folder)),
    "table of gliomas": Reader(_gliomas, lambda folder: layouts.samples(catalog.get("lgg"), folder)),
    "table of ReMIND": _remind("csv"),
    "workbook of ReMIND": _remind("xlsx"),
    "manifest": _of_store("manifest.csv"),
    "manifest without log": _of_store("manifest.csv", vouched=False),
    "log": _of_store("log.json"),
    "images": _of_store("images.h5"),
    "images without log": _of_store("images.h5", vouched=False),
    "groups": Reader(
        _groups, lambda folder: read_splits("own", pd.DataFrame({"path": [f"{i}.png" for i in range(8)], "label": "a"}))
    ),
    "record": _of_evidence("metrics.json"),
    "history": _of_evidence("history.csv"),
    "predictions": _of_evidence("predictions.csv.gz"),
    "findings of curation": _of_evidence("curation/sartaj.json"),
    "weights": _of_weights("model.safetensors"),
    "card of weights": _of_weights("card.json"),
    "weights of a backbone": _backbone("squeezenet.safetensors"),
    "pickled weights": _backbone("squeezenet.pth"),
    "checkpoint": Reader(_checkpoint, _read_checkpoint, sealed=True),
    "notebook": Reader(
        lambda folder: small_notebook(folder / "small.ipynb", "1"),
        lambda folder: read_parameters(folder / "small.ipynb"),
    ),
}
