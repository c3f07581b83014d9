"""Measures shortcuts: how well orientation or source of an image predict its class without any tumour.

Patient folds do not help, since a source crosses all of them. The classifiers here are given nothing else, so their
score is that of the shortcut alone.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from datasets import catalog
from datasets.store.images import ImageDataset
from datasets.store.index import read_manifest
from datasets.store.packing import cores
from datasets.store.preprocess import decode
from datasets.transforms import VIEWS, head_mask
from utils.evaluation.classification import evaluate, prediction_table

BACKGROUND_BINS = 8  # of the grey histogram outside the head, from 0 to 63


def orientation_features(transforms: Sequence[str]) -> pd.DataFrame:
    """One column a transform, 1 where the image was turned that way: N×(transforms that occur)."""
    return pd.get_dummies(pd.Series(transforms, dtype=str), dtype=float)


def image_traits(grey: np.ndarray) -> dict[str, float]:
    """Traits of a grey image H×W uint8 that hold no anatomy: borders, background, sharpness, JPEG blocks."""
    height, width = grey.shape
    frame, outside = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(float), grey[~head_mask(grey)]
    outside = outside if len(outside) else np.zeros(1, np.uint8)
    histogram = np.histogram(outside, BACKGROUND_BINS, (0, 64))[0] / len(outside)
    steps = np.abs(np.diff(grey.astype(float), axis=1)).mean(0) if width > 1 else np.zeros(1)
    at_blocks = steps[7::8].mean() if width > 8 else 0.0
    rows, columns = np.ptp(grey, axis=1) <= 8, np.ptp(grey, axis=0) <= 8  # lines of one grey value, nearly

    def leading(lines: np.ndarray) -> int:
        return len(lines) if lines.all() else int(np.argmin(lines))

    return {
        "frame_mean": frame.mean(),
        "frame_std": frame.std(),
        "border_top": leading(rows) / height,
        "border_bottom": leading(rows[::-1]) / height,
        "border_left": leading(columns) / width,
        "border_right": leading(columns[::-1]) / width,
        "background_share": len(outside) / grey.size,
        "background_zero": float((outside == 0).mean()),
        "background_std": float(outside.std()),
        "sharpness": float(np.log1p(cv2.Laplacian(grey, cv2.CV_64F).var())),
        "blockiness": float(at_blocks / (steps.mean() + 1e-6)),
    } | {f"background_{i}": share for i, share in enumerate(histogram)}


def file_traits(content: bytes) -> dict[str, float]:
    """Traits of an image file's header: colour mode and JPEG quantisation (mean step of each table, 0 without)."""
    with Image.open(io.BytesIO(content)) as image:
        tables = getattr(image, "quantization", None) or {}
        steps = [float(np.mean(list(table))) for _, table in sorted(tables.items())] + [0.0, 0.0]
        return {"colour": float(image.mode not in ("L", "1")), "jpeg_luma": steps[0], "jpeg_chroma": steps[1]}


def source_traits(name: str, view: str = "file") -> pd.DataFrame:
    """Traits without anatomy of every image of a data set, in manifest order, of the publisher's files ("file": size
    and shape of file and image, header, image), or of the packed images as a model receives them (128 pixels; a key of
    `transforms.VIEWS`)."""
    manifest = read_manifest(name)
    if view in VIEWS:
        data = ImageDataset(name, np.arange(len(manifest)), view=view)
        images = data.batch(range(len(data)))["image"][:, 0].numpy()
        return pd.DataFrame([image_traits(image) for image in images])
    raw = catalog.dataset_dir(name) / "raw"

    def of_file(path: str) -> dict[str, float]:
        content = (raw / path).read_bytes()
        return file_traits(content) | image_traits(decode(content))

    with ThreadPoolExecutor(cores()) as pool:
        found = pd.DataFrame(list(pool.map(of_file, manifest.path)))
    shape = manifest[["bytes", "width", "height"]].astype(float)
    bits = 8 * shape.bytes / shape.width / shape.height
    return found.join(shape).assign(aspect=shape.width / shape.height, bits=bits)


def has_files(name: str) -> bool:
    """Whether the publisher's image files are here: never for the phantom, nor for `cheng`, which has none."""
    return catalog.get(name).layout == "folders" and (catalog.dataset_dir(name) / "raw").is_dir()


def cross_validated(
    features: pd.DataFrame, labels: Sequence[str], folds: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Probabilities N×K of 200 extremely randomised trees, trained on the other folds: each row is predicted once."""
    x, y = features.to_numpy(float), np.array([list(classes).index(label) for label in labels])
    trees = ExtraTreesClassifier(200, min_samples_leaf=2, n_jobs=cores(), random_state=0)
    out = np.zeros((len(x), len(classes)))
    out[:, np.unique(y)] = cross_val_predict(trees, x, y, cv=PredefinedSplit(folds), method="predict_proba")
    return out


def score(name: str, table: pd.DataFrame, features: pd.DataFrame, resamples: int = 1000) -> dict[str, dict]:
    """Metrics, with intervals over groups, of `cross_validated` on `features` over the patient folds. `table`: rows of
    a data set's split table (`split_table.curate`), with the manifest's index."""
    rows, classes = table.index.to_numpy(), catalog.get(name).classes
    probs = cross_validated(features, table.label, table.fold.astype(int).to_numpy(), classes)
    predicted = prediction_table(name, rows, table.group.to_numpy(), classes, probs)
    return evaluate(predicted, classes, resamples)["metrics"]
