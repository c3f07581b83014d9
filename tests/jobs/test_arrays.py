"""Jobs of several tasks: each has its own parameters. All but the first test read the files alone."""

import re

import pytest
from slurm_jobs import Job

from datasets.catalog import REPO
from models import BACKBONES

ARRAYS = {  # job → parameters that its tasks differ in, and their values
    "vit": (["model"], [["ViT"], ["AlexNet"], ["VGG16"]]),
    "unet": (["model"], [["ClassicUNet"], ["ImprovedUNet"], ["AttentionUNet"]]),
    "curation": (["dataset"], [["brain-tumor-mri"], ["sartaj"], ["cheng"]]),
    "s4": (
        ["backbone", "target", "split"],
        [
            ["ResNetRS152", "label", "random"],
            ["EfficientNetV2-B1", "label", "random"],
            ["ConvNeXt-S", "label", "random"],
            ["ViT-B16", "label", "random"],
            ["ResNet50", "tumour", "random"],
            ["ViT-B16", "tumour", "random"],
        ],
    ),
    "s1": (
        ["backbone", "dataset"],
        [[b, "remind"] for b in ("VGG19", "InceptionV3", "DenseNet121", "Xception", "ResNet50", "ViT-B16")],
    ),
    "localisation": (
        ["dataset", "recipe"],
        [[d, step] for d in ("cheng", "brain-tumor-mri") for step in ("name-only", "with-masks", "from-outline")],
    ),
    "xray": (["recipe"], [["chexnet"], ["chexnet-asymmetric"]]),
    "mtl": (
        ["dataset", "split"],
        [
            ["sartaj", "published"],
            ["sartaj", "patient"],
            ["brain-tumor-mri", "published"],
            ["brain-tumor-mri", "cleaned"],
            ["brain-tumor-mri", "patient"],
        ],
    ),
}


@pytest.mark.slurm
@pytest.mark.parametrize("name", ARRAYS)
def test_a_task_of_an_array_has_its_own_parameters(submit, tmp_path, name):
    parameters, values = ARRAYS[name]
    # Fewer CPUs than the job asks for: it starts on a small machine, too, and says the same.
    options = (f"--array=0-{len(values) - 1}", f"--output={tmp_path}/task-%a.log", "--cpus-per-task=1")
    array = submit(f"jobs/{name}.job", "--list", options=options)
    tasks = [Job(f"{array.number}_{i}", tmp_path / f"task-{i}.log") for i in range(len(values))]
    assert [task.end() for task in tasks] == ["COMPLETED"] * len(values), tasks[0].text()
    assert [[re.search(rf"^{p} +(\S+)", t.text(), re.MULTILINE)[1] for p in parameters] for t in tasks] == values


@pytest.mark.parametrize("name", ["unet", "mtl", "s1", "s4", "localisation"])
def test_a_job_of_several_models_or_sets_is_an_array_by_itself(name):
    last = len(ARRAYS[name][1]) - 1
    assert f"#SBATCH --array=0-{last}\n" in (REPO / f"jobs/{name}.job").read_text()


def test_the_transfer_job_has_a_task_for_every_backbone():
    text = (REPO / "jobs/transfer.job").read_text()
    assert re.search(r"^backbones=\(([^)]*)\)", text, re.MULTILINE)[1].split() == list(BACKBONES)
    assert f"#SBATCH --array=0-{len(BACKBONES) - 1}\n" in text
