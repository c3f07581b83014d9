"""From a publisher's archive to the end of a chapter in quick mode, for each collection that is no default."""

import ast
import json
import re
from itertools import islice
from pathlib import Path

import archives
import lgg_files
import nbformat
import own_images
import pytest
import remind_files
import xray_files
from IPython.core.interactiveshell import InteractiveShell

from datasets.catalog import REPO
from utils.parameters import overrides, read_parameters
from utils.training import loop


def named(name: str, tmp_path) -> int:
    """A whole set under the publisher's names."""
    archive = archives.saved(tmp_path, archives.under_their_names(name), f"{name}.zip")
    return archives.bring(name, archive, "--size", "64")


def remind(tmp_path) -> int:
    clinical = remind_files.table(remind_files.DIAGNOSES)
    return archives.bring("remind", remind_files.archive(tmp_path, clinical), "--size", "64")


def classes(tmp_path) -> int:
    """A reader's folders of classes with odd names, one of them rare."""
    folder = own_images.classes(tmp_path / "mine", ODD)
    for i in range(5):
        next((folder / ODD[0]).glob(f"{i}.*")).unlink()
    return own_images.own("--folder", folder)


def channels(tmp_path) -> int:
    """A reader's images of three channels, with masks."""
    folder = own_images.tabled(tmp_path / "mine", own_images.coloured(24))
    return own_images.own("--folder", folder, "--channels", "pre,FLAIR,post")


def both(tmp_path) -> int:
    return named("brain-tumor-mri", tmp_path) or named("navoneel", tmp_path)


ODD = ["_NORMAL T1", "Meningioma T1C+", "glioma, low grade", "Tumeur épithéliale", "脑膜瘤", "a=b", "100 %", "x'y\"z"]
CASES = {  # data set → what brings it in, chapter and parameters, what it prints
    "brain-tumor-44c": (
        lambda tmp_path: named("brain-tumor-44c", tmp_path),
        "3_transfer_learning split random trials 0",
        ["brain-tumor-44c.random.SqueezeNet", "test accuracy", "one decision a patient"],
    ),
    "chest-xray14": (
        lambda tmp_path: archives.bring("chest-xray14", archives.saved(tmp_path, xray_files.published(400))),
        "7_chest_xray split published",
        ["chest-xray14.published.SqueezeNet.chexnet-scratch-64px-findings-quick.seed0"],
    ),
    "lgg": (
        lambda tmp_path: archives.bring("lgg", archives.saved(tmp_path, lgg_files.published()), "--size", "64"),
        "5_segmentation split patient image_size 32",
        ["lgg.patient-f0.AttentionUNet.ours-n8-32px-quick.seed0", "test: 791 slices of 27 patients"],
    ),
    "remind": (
        remind,
        "3_transfer_learning recipe s1 trials 0 fold 6",
        ["remind.patient-f6.SqueezeNet.s1-scratch-64px-quick.seed0"],
    ),
    "own, classes": (
        classes,
        "2_classification image_size 64",
        ["own.patient-f0.CustomCNN.s2-64px-quick.seed0"],
    ),
    "own, channels": (channels, "5_segmentation split patient image_size 32", ["own.patient-f0"]),
    "brain-tumor-mri": (
        both,
        "3_transfer_learning split external test_on navoneel trials 0",
        ["brain-tumor-mri.external-navoneel.SqueezeNet"],
    ),
}


def run_chapter(path: Path, given: list[tuple[str, str]]) -> None:
    """Run a chapter's cells in this process. Of those that read nothing but the records only the imports are run:
    what they show is compared elsewhere, and takes longer than a quick training."""
    shell = InteractiveShell()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tags, source = cell.metadata.get("tags", []), re.sub(r"^%.*", "", cell.source, flags=re.M)
        if "records" in tags:
            lines = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
            source = ast.unparse(ast.Module(lines, []))
        shell.run_cell(source).raise_error()
        if "parameters" in tags:
            shell.push(overrides(read_parameters(path), given))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_a_collection_is_brought_in_and_a_chapter_runs_on_it(name, tmp_path, monkeypatch, capsys):
    bring, words, expected = CASES[name]
    for variable in ("DATA", "OUTPUT"):
        monkeypatch.setenv(f"BRAIN_MRI_{variable}", str(tmp_path / variable.lower()))
    monkeypatch.setattr(loop, "tqdm", lambda batches, **how: islice(batches, 8))  # not the whole of a set of thousands
    assert not bring(tmp_path)
    chapter, *words = f"{words} dataset {name.split(',')[0]} epochs 1".split()
    run_chapter(REPO / f"notebooks/{chapter}.ipynb", list(zip(words[::2], words[1::2], strict=True)))
    said = capsys.readouterr().out
    assert not [text for text in expected if text not in said]
    if name == "brain-tumor-mri":  # tumour or none, on what another set adds
        (record,) = (tmp_path / "output/runs").glob("*external-navoneel.SqueezeNet*/metrics.json")
        found = json.loads(record.read_text())
        assert found["tumour_or_none"]["healthy"] == 2 and found["tumour_or_none"]["specificity"]["value"] is None
        assert found["tumour_or_none"]["tumours"] == found["images"] - 2 > 130
