"""Fixtures of the tests of predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pytest
from dicom_files import compressed, dicom
from own_images import head
from PIL import Image
from saved_model import save_model

from datasets import catalog
from utils.files import write_sealed
from utils.predict.model import SavedModel, open_model
from utils.report.weights import CARD


@pytest.fixture
def save_able(roots, monkeypatch) -> Callable[..., Path]:
    """Saves an untrained CustomCNN (of a seed) that may be asked by default; returns its folder. Nothing is committed.

    Its card says so: it has the phantom's classes, and `changes` of what it was trained on, a real set before all.
    """
    monkeypatch.setattr(catalog, "REPO", roots / "repository")

    def save(seed: int = 0, **changes: str | None) -> Path:
        path = save_model("phantom", seed=seed).with_name(CARD)
        card = json.loads(path.read_text())
        card["trained_on"] |= {"dataset": "brain-tumor-mri"} | changes
        write_sealed(path, card)
        return path.parent

    return save


@pytest.fixture
def classifier(save_able) -> SavedModel:
    """An untrained CustomCNN that is asked by default, alone in `saved_models/`."""
    save_able()
    return open_model("best")


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with an image of every kind that is read."""
    folder = tmp_path / "files"
    folder.mkdir()
    grey = head(1, 96)
    for name in ("a.jpg", "b.png", "c.tif"):
        Image.fromarray(grey).save(folder / name)
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "16 bits.png")
    Image.fromarray(grey).convert("CMYK").save(folder / "cmyk.jpg")
    dicom(folder / "slice.dcm", grey.astype(np.int16) * 10)
    dicom(folder / "frames.dcm", np.stack([head(s, 96) for s in (1, 2, 3)]).astype(np.int16))
    dicom(folder / "jpeg2000.dcm", grey.astype(np.int16) * 10)
    compressed(folder / "jpeg2000.dcm", gdcm.TransferSyntax.JPEG2000Lossless)
    return folder
