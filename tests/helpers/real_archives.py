"""The real archives that tests marked `real` bring in."""

import os
from pathlib import Path

import pytest

from datasets import catalog

CURATED = ("brain-tumor-mri", "sartaj", "cheng", "navoneel", "brain-tumor-44c")


def real_archive(name: str) -> Path:
    """The real archive of a data set, under the name that the tests' folder has for it; skips where there is none."""
    archives = os.environ.get("BRAIN_MRI_ARCHIVES")
    if not archives:
        pytest.skip("BRAIN_MRI_ARCHIVES names no folder with the real archives")
    names = {"navoneel": "navoneel.zip", "chest-xray14": "nih-chest-xray-sample.zip"}
    archive = Path(archives) / names.get(name, catalog.get(name).archive)
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not among the real archives")
    return archive
