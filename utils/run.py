"""A run: which model was trained by which recipe on which data, its id and its folders."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.labels import TARGETS
from datasets.splitting import PROTOCOLS
from datasets.transforms import VIEWS
from models import LOCALISERS, MODELS, MULTITASK, PRETRAINABLE, SEGMENTERS
from utils.training import tasks

NO_RECIPE = "none"
FULL_SIZE = 128  # pixels of S2's input; smaller runs are tries and answer no published number
SEEDS = 2**32  # numpy takes as many
# Of `evaluation/baselines.py`: neighbours that are asked for findings, side of the images, and names.
NEIGHBOURS, PIXELS = 25, 64
BASELINES = ("majority", "1-NN")
NEAREST_MASK, NEAREST_FINDINGS = "1-NN mask", f"{NEIGHBOURS}-NN"
# Task → the metrics on the cards of its weights, the main one first. A run's evidence lies in the folder of its task.
TASKS = {name: task.reported for name, task in tasks.TASKS.items()}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run; `id` says it all, for example `brain-tumor-mri.patient-f0.CustomCNN.s2.seed0`.

    Attributes:
        fold: None stands for all patient folds together.
        test_on: the data set that `external` tests on.
        view: what was done to every image, a key of `datasets.transforms.VIEWS`.
        n_filters: of U-Nets, 0 for others.
        selection: of the slices of volumes, one of `datasets.splitting.SELECTIONS`.
        pretrained: of `models.PRETRAINABLE`; None for other networks.
        target: what is asked of an image, a key of `datasets.labels.TARGETS`.
        task: a key of `TASKS`; where none is given, the one that the model is made for.

    Raises:
        DataError: a seed that is none.
        UnknownName: data set, split, model, view, target or task that does not exist, with the nearest name.
    """

    dataset: str
    split: str = "published"
    fold: int | None = 0
    model: str = "CustomCNN"
    recipe: str = "s2"
    seed: int = 0
    image_size: int = FULL_SIZE
    quick: bool = False
    test_on: str = ""
    view: str = "stored"
    n_filters: int = 0
    selection: str = "all"
    pretrained: bool | None = None
    target: str = "label"
    task: str = ""

    def __post_init__(self):
        for name in filter(None, (self.dataset, self.test_on)):
            catalog.get(name)
        if not 0 <= self.seed < SEEDS:
            raise DataError(f"seed {self.seed}: a whole number from 0 to {SEEDS - 1} is wanted")
        lookup(PROTOCOLS, self.split, "split")
        networks = MODELS | SEGMENTERS | MULTITASK if self.pretrained is None else PRETRAINABLE
        lookup(dict.fromkeys((*networks, *BASELINES, NEAREST_MASK, NEAREST_FINDINGS)), self.model, "model")
        lookup(VIEWS, self.view, "view")
        lookup(TARGETS, self.target, "target")
        object.__setattr__(self, "task", self.task or self._usual_task())  # the way to set a field of a frozen class
        lookup(TASKS, self.task, "task")

    def _usual_task(self) -> str:
        if self.target == "findings":
            return "findings"
        if self.model in LOCALISERS:
            return "localisation"
        if self.model in (*SEGMENTERS, NEAREST_MASK):
            return "segmentation"
        if self.pretrained is not None:
            return "transfer"
        return "multitask" if self.model in MULTITASK else "classification"

    @property
    def id(self) -> str:
        part = f"f{self.fold}" if self.split == "patient" and self.fold is not None else self.test_on
        recipe = [self.recipe]
        if self.pretrained is not None:
            recipe.append("pretrained" if self.pretrained else "scratch")
        if self.n_filters:
            recipe.append(f"n{self.n_filters}")
        if self.recipe != NO_RECIPE and self.image_size != FULL_SIZE:
            recipe.append(f"{self.image_size}px")
        usual = {"view": "stored", "selection": "all", "target": "label"}
        recipe += [getattr(self, name) for name, value in usual.items() if getattr(self, name) != value]
        if self.quick:
            recipe.append("quick")
        split = "-".join([self.split, part] if part else [self.split])
        return f"{self.dataset}.{split}.{self.model.replace(' ', '-')}.{'-'.join(recipe)}.seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Working files (checkpoint, STOP), ignored by git."""
        return output_root() / "runs" / self.id

    @property
    def metrics_folder(self) -> Path:
        """Where the evidence goes. Quick runs are tries, not evidence: theirs stays in the working folder."""
        return self.folder if self.quick else output_root() / "saved_metrics" / self.task / self.dataset / self.id

    @property
    def weights_folder(self) -> Path:
        """Where weights and card go; those of quick runs stay in the working folder."""
        return self.folder if self.quick else output_root() / "saved_models" / self.task / self.dataset / self.id

    def baseline(self, kind: str) -> "Run":
        """The run of a baseline on the same data; it has no recipe and no seed to vary.

        Its task is its own: one 1-NN stands beside all networks that classify, so it belongs to none of their chapters.
        """
        none = {"recipe": NO_RECIPE, "seed": 0, "n_filters": 0, "pretrained": None, "task": ""}
        return replace(self, model=kind, image_size=PIXELS, **none)


def output_root() -> Path:
    """`$BRAIN_MRI_OUTPUT`, or the repository."""
    return Path(os.environ.get("BRAIN_MRI_OUTPUT") or catalog.REPO).expanduser().resolve()
