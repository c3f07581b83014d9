"""The five student projects that are rebuilt here: who made them, under which licence, and what each reported first."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Project:
    """One project.

    Attributes:
        title, authors, url, licence: as its repository states them; "" where nothing was found.
        task, data: in words.
        source, model, dataset, protocol, metric: of its headline, a row of `published.csv`.
        recipe: of our run that answers it; missing: why there is none, in words.
    """

    source: str
    title: str
    authors: str
    url: str
    licence: str
    task: str
    data: str
    model: str
    dataset: str
    protocol: str
    metric: str = "accuracy"
    recipe: str = ""
    missing: str = ""


PROJECTS = (
    Project(
        source="s0",
        title="Brain Tumor Classification: Transfer Learning vs. Multi-Task U-Net",
        authors="Jesper F. Kallehauge (2025)",
        url="https://github.com/Jkallehauge/DL_course_project2025",
        licence="Apache-2.0",
        task="four classes by a multi-task U-Net",
        data="7,023 images, cleaned",
        model="MultiTaskUNet",
        dataset="brain-tumor-mri",
        protocol="cleaned",
        recipe="s0",
    ),
    Project(
        source="s1",
        title="Distributed Deep Learning Framework for Brain Tumor Classification",
        authors="Anna Huang, Xinyi Lyu, Letitia Su, Vicky Yeh",
        url="",
        licence="no repository found",
        task="four classes by fine-tuned networks, by patient",
        data="ReMIND",
        model="ResNet50",
        dataset="remind",
        protocol="patient",
        missing="ReMIND has not been run here yet",
    ),
    Project(
        source="s2",
        title="deep-learning-project",
        authors="Stefano Lusardi, Marco Tallone, Piero Zappi (2024)",
        url="https://github.com/marcotallone/deep-learning-project",
        licence="MIT",
        task="four classes from scratch (CustomCNN)",
        data="7,023 images",
        model="CustomCNN",
        dataset="brain-tumor-mri",
        protocol="published",
        recipe="s2",
    ),
    Project(
        source="s3",
        title="Brain Tumor Classification Using Deep Learning (EfficientNetV2S)",
        authors="kalyan1421",
        url="https://github.com/kalyan1421/Medical-AI-Lung-Brain-Fetal",
        licence="none stated",
        task="four classes by fine-tuning in three stages",
        data="7,023 images",
        model="EfficientNetV2-S",
        dataset="brain-tumor-mri",
        protocol="published",
        missing="its ImageNet weights were not at hand",
    ),
    Project(
        source="s4",
        title="DLDS (KTH course DD2424, 2023)",
        authors="faridashahata",
        url="https://github.com/faridashahata/DLDS",
        licence="none stated",
        task="44 classes by fine-tuning",
        data="44-class brain MRI",
        model="EfficientNetV2-B1",
        dataset="brain-tumor-44c",
        protocol="random",
        missing="its ImageNet weights were not at hand",
    ),
)
