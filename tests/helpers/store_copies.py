"""A copy of a data set, to be damaged."""

import shutil
from pathlib import Path

import pytest


def copied(root: Path, to: Path, monkeypatch: pytest.MonkeyPatch, name: str = "phantom") -> Path:
    """Copy data set `name` of data root `root` into the new data root `to`/data, and point the project there."""
    shutil.copytree(root / name, to / "data" / name)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(to / "data"))
    return to / "data" / name
