"""From a publisher's archive to the end of a chapter in quick mode, for each collection that is no default."""

import json
import subprocess
import sys

import archives
import collections_made
import pytest
import remind_files
import xray_files

from datasets.catalog import REPO


def chapter(name: str, *parameters: str) -> str:
    """What a chapter prints when it runs in quick mode; it must end well."""
    given = [word for i in range(0, len(parameters), 2) for word in ("-p", *parameters[i : i + 2])]
    command = [sys.executable, "-m", "utils.headless", str(REPO / f"notebooks/{name}.ipynb"), *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty roots of data and output."""
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("BRAIN_MRI_HEADLESS", "1")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_44_classes(places, tmp_path):
    collections_made.made("brain-tumor-44c", tmp_path)
    said = chapter("3_transfer_learning", "dataset", "brain-tumor-44c", "split", "random", "trials", "0", "epochs", "1")
    assert "brain-tumor-44c.random.SqueezeNet" in said and "test accuracy" in said and "one decision a patient" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_xrays(places, tmp_path):
    assert archives.bring("chest-xray14", archives.saved(tmp_path, xray_files.published(400))) == 0
    said = chapter("7_chest_xray", "dataset", "chest-xray14", "split", "published", "epochs", "1")
    assert "chest-xray14.published.SqueezeNet.chexnet-scratch-64px-findings-quick.seed0" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_dicom_series_of_patients(places, tmp_path):
    assert remind_files.bring(remind_files.archive(tmp_path, slices=8)) == 0
    said = chapter(
        "3_transfer_learning", "dataset", "remind", "recipe", "s1", "trials", "0", "epochs", "1", "fold", "6"
    )
    assert "remind.patient-f6.SqueezeNet.s1-scratch-64px-quick.seed0" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tumour_or_none_on_what_another_set_adds(places, tmp_path):
    collections_made.made("brain-tumor-mri", tmp_path)
    collections_made.made("navoneel", tmp_path)
    said = chapter(
        "2_classification", "dataset", "brain-tumor-mri", "split", "external", "test_on", "navoneel", "epochs", "1",
        "image_size", "64",
    )  # fmt: skip
    assert "brain-tumor-mri.external-navoneel.CustomCNN" in said
    (record,) = (tmp_path / "output/runs").glob("*external-navoneel.CustomCNN*/metrics.json")
    found = json.loads(record.read_text())
    assert found["tumour_or_none"]["healthy"] == 2 and found["tumour_or_none"]["specificity"]["value"] is None
    assert found["tumour_or_none"]["tumours"] == found["images"] - 2 > 130


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tumour_or_none_alone(places, tmp_path):
    files = {f"{folder}/{stem}{i}.jpg": collections_made.image(i) for folder, stem in (("yes", "y"), ("no", "no"))
             for i in range(60)}  # fmt: skip
    assert collections_made.bring("br35h", collections_made.saved(tmp_path, files)) == 0
    said = chapter("2_classification", "dataset", "br35h", "split", "random", "epochs", "1", "image_size", "64")
    assert "br35h.random.CustomCNN.s2-64px-quick.seed0" in said
