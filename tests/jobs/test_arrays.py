"""Jobs of several tasks: each has its own parameters."""

import re
import subprocess
from pathlib import Path

import pytest

from datasets.catalog import CATALOG, REPO
from models import BACKBONES
from utils.parameters import overrides, read_parameters

BACKBONES_OF_S1 = ("VGG19", "InceptionV3", "DenseNet121", "Xception", "ResNet50", "ViT-B16")
OF_S4 = ("ResNetRS152 label", "EfficientNetV2-B1 label", "ConvNeXt-S label", "ViT-B16 label", "ResNet50 tumour")
STEPS = ("name-only", "with-masks", "from-outline")
SPLITS = ("published", "cleaned", "patient")
ARRAYS = {  # job → parameters that its tasks differ in, and their values
    "vit": ("model", ["ViT", "AlexNet", "VGG16"]),
    "unet": ("model", ["ClassicUNet", "ImprovedUNet", "AttentionUNet"]),
    "curation": ("dataset", ["brain-tumor-mri", "sartaj", "cheng"]),
    "s4": ("backbone target split", [f"{task} random" for task in (*OF_S4, "ViT-B16 tumour")]),
    "s1": ("backbone dataset", [f"{backbone} remind" for backbone in BACKBONES_OF_S1]),
    "localisation": ("dataset recipe", [f"{d} {step}" for d in ("cheng", "brain-tumor-mri") for step in STEPS]),
    "xray": ("recipe", ["chexnet", "chexnet-asymmetric"]),
    "mtl": (
        "dataset split",
        ["sartaj published", "sartaj patient", *(f"brain-tumor-mri {split}" for split in SPLITS)],
    ),
}


def printed(name: str, task: int, folder: Path, *arguments: str) -> list[str]:
    """What a task of a job prints where `jobs/run.sh` prints its arguments, a line each."""
    (folder / "jobs").mkdir(exist_ok=True)
    (folder / "jobs/run.sh").write_text('printf "%s\\n" "$@"\n')
    command, env = ["bash", str(REPO / f"jobs/{name}.job"), *arguments], {"SLURM_ARRAY_TASK_ID": str(task)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("name", ARRAYS)
def test_each_task_of_an_array_has_its_own_parameters(name, tmp_path):
    names, values = ARRAYS[name]
    declared = f"#SBATCH --array=0-{len(values) - 1}\n" in (REPO / f"jobs/{name}.job").read_text()
    assert declared == (name not in ("vit", "curation", "xray")), "one task alone, unless it is asked for others"
    for task, value in enumerate(values):
        lines = printed(name, task, tmp_path)
        call = lines[[line.startswith("notebooks/") for line in lines].index(True) :]
        given = overrides(read_parameters(REPO / call[0]), list(zip(call[2::3], call[3::3], strict=True)))
        assert " ".join(given[name] for name in names.split()) == value


@pytest.mark.slurm
def test_slurm_gives_the_first_and_the_last_task_their_number(submit, tmp_path, monkeypatch):
    names, values = ARRAYS["s4"]
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path))
    for path in (tmp_path / dataset / file for dataset in CATALOG for file in ("manifest.csv", "images.h5")):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    # Fewer CPUs than the job asks for: it starts on a small machine, too, and says the same.
    tasks = submit("jobs/s4.job", "--list", options=["--cpus-per-task=1"], tasks=(0, len(values) - 1))
    assert [task.end() for task in tasks] == ["COMPLETED"] * 2, tasks[0].text()
    for task, value in zip(tasks, (values[0], values[-1]), strict=True):
        found = [re.search(rf"^{name} +(\S+)", task.text(), re.MULTILINE)[1] for name in names.split()]
        assert " ".join(found) == value


def test_the_transfer_job_has_a_task_for_every_backbone():
    text = (REPO / "jobs/transfer.job").read_text()
    assert re.search(r"^backbones=\(([^)]*)\)", text, re.MULTILINE)[1].split() == list(BACKBONES)
    assert f"#SBATCH --array=0-{len(BACKBONES) - 1}\n" in text


def test_the_first_line_of_the_segmentation_job_names_its_data_and_what_brats_needs(tmp_path):
    first, *call = printed("unet", 1, tmp_path, "-p", "epochs", "1")
    assert "'cheng'" in first and "download.py brats2020" in first and "-p dataset brats2020" in first
    assert call[-3:] == ["-p", "epochs", "1"]
