"""Fixtures that several test files share: a small phantom, made once a session, and folders outside the repository."""

import io
import os
from contextlib import redirect_stderr

import pytest
import torch
from archives import CURATED, real_archive
from filelock import FileLock

from datasets import download
from datasets.generator import phantom
from datasets.splitting import make_split
from datasets.store.images import ImageDataset

torch.set_num_threads(min(2, torch.get_num_threads()))  # fewer where OMP_NUM_THREADS says so


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory):
    """A data root with a phantom of 24 patients at 64 pixels, and an empty output root; returns the data root."""
    root = tmp_path_factory.mktemp("data")
    (root / "phantom").mkdir()
    phantom.generate(root / "phantom", size=64, patients=24, slices=3)
    return root


@pytest.fixture
def roots(small_phantom, tmp_path, monkeypatch):
    """Point the project to the small phantom and to an empty output folder; returns the output folder."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(small_phantom))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")
    monkeypatch.delenv("BRAIN_MRI_STOP", raising=False)
    return tmp_path


@pytest.fixture
def parts(roots):
    """The first 32 training and validation images of a patient fold of the small phantom."""
    split = make_split("phantom", "patient")
    return [ImageDataset("phantom", rows[:32], image_size=64) for rows in (split.train, split.val)]


@pytest.fixture(scope="session")
def real_sets(tmp_path_factory):
    """A data root with the real sets that curation compares, brought in by `download.py`; skips without archives.

    Made once for all workers of a session: the second one waits, and finds it whole.
    """
    archives = {name: real_archive(name) for name in CURATED}
    session = tmp_path_factory.getbasetemp()
    root = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "real"
    root.mkdir(exist_ok=True)
    with FileLock(root / "made.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(root))
        for name, archive in archives.items():
            if not (root / name / "log.json").is_file():
                with redirect_stderr(io.StringIO()) as said:
                    assert download.main([name, "--archive", str(archive)]) == 0
                assert said.getvalue() == "", "no broken image, no count that differs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN_MRI_DATA", str(root))
        yield root
