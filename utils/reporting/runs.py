"""A run: what is run on which data, its id and its folders."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import catalog
from datasets.catalog import lookup
from datasets.labels import TARGETS
from datasets.splitting import PROTOCOLS
from datasets.transforms import VIEWS
from models import BACKBONES, MODELS, MULTITASK, SEGMENTERS
from utils.evaluation.baselines import BASELINES, NEAREST_MASK, PIXELS

NO_RECIPE = "none"


FULL_SIZE = 128  # pixels of S2's input; smaller runs are tries and answer no published number


@dataclass(frozen=True)
class Run:
    """What is run; `id` says it all, for example `brain-tumor-mri.patient-f0.CustomCNN.s2.seed0`.

    `fold` None stands for the five patient folds together. `test_on` is the set that `external` tests on, `view`
    what was done to every image (`datasets.transforms.VIEWS`). U-Nets alone have `n_filters`, and sets of
    volumes a `selection` of slices (`datasets.splitting.SELECTIONS`). Backbones alone are
    `pretrained` or not; of other networks it is None. `target` is what is asked of an image, a key of
    `datasets.labels.TARGETS`.

    Raises:
        UnknownName: data set, split or model that does not exist, with the nearest name.
    """

    dataset: str
    split: str = "published"
    fold: int | None = 0
    model: str = "CustomCNN"
    recipe: str = "s2"
    seed: int = 0
    image_size: int = 128
    quick: bool = False
    test_on: str = ""
    view: str = "stored"
    n_filters: int = 0
    selection: str = "all"
    pretrained: bool | None = None
    target: str = "label"

    def __post_init__(self):
        for name in filter(None, (self.dataset, self.test_on)):
            catalog.get(name)
        lookup(PROTOCOLS, self.split, "split")
        models = MODELS | SEGMENTERS | MULTITASK
        lookup(
            (models if self.pretrained is None else BACKBONES) | BASELINES | {NEAREST_MASK: None}, self.model, "model"
        )
        lookup(VIEWS, self.view, "view")
        lookup(TARGETS, self.target, "target")

    @property
    def id(self) -> str:
        part = f"f{self.fold}" if self.split == "patient" and self.fold is not None else self.test_on
        how = [self.recipe]
        if self.pretrained is not None:
            how.append("pretrained" if self.pretrained else "scratch")
        how += [f"n{self.n_filters}"] * bool(self.n_filters)
        if self.recipe != NO_RECIPE and self.image_size != 128:
            how.append(f"{self.image_size}px")
        how += [self.view] * (self.view != "stored") + [self.selection] * (self.selection != "all")
        how += [self.target] * (self.target != "label") + ["quick"] * self.quick
        where = "-".join([self.split, part] if part else [self.split])
        return f"{self.dataset}.{where}.{self.model.replace(' ', '-')}.{'-'.join(how)}.seed{self.seed}"

    @property
    def task(self) -> str:
        if self.target == "findings":
            return "findings"
        if self.pretrained is not None:
            return "transfer"
        if self.model in MULTITASK:
            return "multitask"
        return "segmentation" if self.model in (*SEGMENTERS, NEAREST_MASK) else "classification"

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
        """The run of a baseline on the same data; it has no recipe and no seed to vary."""
        return replace(self, model=kind, recipe=NO_RECIPE, seed=0, image_size=PIXELS, n_filters=0, pretrained=None)


def output_root() -> Path:
    """`$BRAIN_MRI_OUTPUT`, or the repository."""
    return Path(os.environ.get("BRAIN_MRI_OUTPUT") or catalog.REPO).expanduser().resolve()
