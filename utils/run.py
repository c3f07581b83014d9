"""A run: which model was trained by which recipe on which data, its id and its folders."""

from dataclasses import dataclass, replace
from pathlib import Path

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.labels import TARGETS
from datasets.splitting import PROTOCOLS
from datasets.transforms import VIEWS
from models import LOCALISERS, MODELS, MULTITASK, PRETRAINABLE, SEGMENTERS
from models.backbones import is_backbone
from utils.files import output_root
from utils.training import tasks

NO_RECIPE, SEEDS = "none", 2**32  # numpy takes as many seeds
FULL_SIZE = 128  # pixels of S2's input; smaller runs are tries and answer no published number
NEIGHBOURS, PIXELS = 25, 64  # of baselines: how many are asked for findings, and the side of their images
BASELINES, NEAREST_MASK, NEAREST_FINDINGS = ("majority", "1-NN"), "1-NN mask", f"{NEIGHBOURS}-NN"
# Task → the metrics on the cards of its weights, the main one first. A run's evidence lies in the folder of its task.
TASKS = {name: task.reported for name, task in tasks.TASKS.items()}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run; `id` says it all, for example `brain-tumor-mri.patient-f0.CustomCNN.s2.seed0`.

    Attributes:
        fold: None stands for all patient folds together. test_on: the data set that `external` tests on.
        view: of every image, a key of `transforms.VIEWS`; target: what is asked of it, a key of `labels.TARGETS`.
        selection: of the slices of volumes, one of `splitting.SELECTIONS`.
        n_filters: of U-Nets, 0 for others. pretrained: of `models.PRETRAINABLE` and timm's, None for others.
        task: a key of `tasks.TASKS`; by default the one that the model is made for.

    Raises `DataError` for a seed that is none, and `UnknownName`, with the nearest name, for whatever does not exist.
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
        [catalog.get(name) for name in (self.dataset, self.test_on) if name]
        if not 0 <= self.seed < SEEDS:
            raise DataError(f"seed {self.seed}: a whole number from 0 to {SEEDS - 1} is wanted")
        lookup(PROTOCOLS, self.split, "split")
        networks = MODELS | SEGMENTERS | MULTITASK if self.pretrained is None else PRETRAINABLE
        known = dict.fromkeys((*networks, *BASELINES, NEAREST_MASK, NEAREST_FINDINGS))
        if self.pretrained is None or not (self.model in known or is_backbone(self.model)):  # which may import timm
            lookup(known, self.model, "model")
        lookup(VIEWS, self.view, "view")
        lookup(TARGETS, self.target, "target")
        usual = {
            "findings": self.target == "findings",
            "localisation": self.model in LOCALISERS,
            "segmentation": self.model in (*SEGMENTERS, NEAREST_MASK),
            "transfer": self.pretrained is not None,
            "multitask": self.model in MULTITASK,
            "classification": True,
        }
        task = self.task or next(name for name, applies in usual.items() if applies)
        lookup(TASKS, task, "task")
        object.__setattr__(self, "task", task)  # the way to set a field of a frozen class

    @property
    def id(self) -> str:
        part = f"f{self.fold}" if self.split in ("patient", "source") and self.fold is not None else self.test_on
        small = self.recipe != NO_RECIPE and self.image_size != FULL_SIZE
        how = [self.recipe, {None: "", True: "pretrained", False: "scratch"}[self.pretrained]]
        how += [f"n{self.n_filters}" if self.n_filters else "", f"{self.image_size}px" if small else ""]
        how += [value for value in (self.view, self.selection, self.target) if value not in ("stored", "all", "label")]
        split, how = (
            "-".join(filter(None, words)) for words in ((self.split, part), [*how, "quick" if self.quick else ""])
        )
        return f"{self.dataset}.{split}.{self.model.replace(' ', '-')}.{how}.seed{self.seed}"

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
        """Where weights and card go, likewise."""
        return self.folder if self.quick else output_root() / "saved_models" / self.task / self.dataset / self.id

    def baseline(self, kind: str) -> "Run":
        """The run of a baseline on the same data: no recipe, no seed to vary, and a task of its own, since one 1-NN
        stands beside all networks that classify."""
        none = {"recipe": NO_RECIPE, "seed": 0, "n_filters": 0, "pretrained": None, "task": ""}
        return replace(self, model=kind, image_size=PIXELS, **none)
