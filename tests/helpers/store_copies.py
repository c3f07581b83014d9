"""A copy of a data set, to be damaged."""

import shutil
from pathlib import Path

import h5py
import pytest


def copied(root: Path, to: Path, monkeypatch: pytest.MonkeyPatch, name: str = "phantom") -> Path:
    """Copy data set `name` of data root `root` into the new data root `to`/data, and point the project there."""
    shutil.copytree(root / name, to / "data" / name)
    monkeypatch.setenv("BRAIN_MRI_DATA", str(to / "data"))
    return to / "data" / name


def spoil_chunk(path: Path, name: str, row: int) -> None:
    """Change one byte of the chunk of an image or mask."""
    with h5py.File(path) as store:
        chunk = store[name].id.get_chunk_info_by_coord((row, *[0] * (store[name].ndim - 1)))
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
