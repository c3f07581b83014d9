"""A row of the ledger: one command, and the run (of a linear probe the runs of all splits) whose record it leaves."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from datasets.catalog import UnknownName
from models import LOCALISERS, MULTITASK, SEGMENTERS
from utils.report.probes import RECIPE as PROBE
from utils.report.probes import splits_of
from utils.run import Run

EVERY_SPLIT = "every-split"  # of a probe, whose one command makes all of them
CLASSIFICATION, TRANSFER = "notebooks/2_classification.ipynb", "notebooks/3_transfer_learning.ipynb"
MULTI, SEGMENTATION = "notebooks/4_multitask.ipynb", "notebooks/5_segmentation.ipynb"
LOCALISATION, XRAYS = "notebooks/6_localisation.ipynb", "notebooks/7_chest_xray.ipynb"
# What a chapter calls a field of `Run` where it has another name for it; "" where it has no such parameter.
CALLED: dict[str, dict[str, str]] = {
    CLASSIFICATION: {},
    TRANSFER: {"model": "backbone"},
    MULTI: {"model": "", "n_filters": "width"},
    SEGMENTATION: {},
    LOCALISATION: {"model": ""},
    XRAYS: {"model": "backbone", "target": ""},
}
DEFAULTS = {field.name: field.default for field in fields(Run) if field.default is not MISSING}
ALWAYS = ("dataset", "split", "model", "recipe", "seed", "image_size", "quick")  # a chapter's defaults are others


@dataclass(frozen=True, kw_only=True)
class Row:
    """One command of the ledger.

    Attributes:
        group: what it is for.
        run: fields of `Run`; they may name a data set, or be fields, that this version does not know yet.
        epochs: 0 for as many as the recipe says.
        precision: "bf16" or "no".
    """

    group: str
    run: Mapping[str, object]
    epochs: int = 0
    precision: str = "no"

    def __getitem__(self, field: str) -> object:
        """A field of `Run`, its default where the row does not name it."""
        return self.run[field] if field in self.run else DEFAULTS.get(field)

    @property
    def is_probe(self) -> bool:
        return self["recipe"] == PROBE

    def runs(self) -> list[Run]:
        """The runs whose records the command leaves: one, of a probe one a split.

        Raises:
            UnknownName, TypeError: a name or a field that this version does not know.
        """
        splits = splits_of(self["dataset"]) if self.is_probe else [{}]
        return [Run(**(dict(self.run) | split)) for split in splits]

    @property
    def name(self) -> str:
        """The id of its run; of a probe, and of a run that this version does not know, one in its manner."""
        if not self.is_probe:
            try:
                return Run(**self.run).id
            except (UnknownName, TypeError):
                pass
        fold = f"f{self['fold']}" if self["split"] == "patient" else self["test_on"]
        start = {True: "pretrained", False: "scratch", None: ""}[self["pretrained"]]
        size = f"{self['image_size']}px" if self["image_size"] != DEFAULTS["image_size"] else ""
        split = "-".join(filter(None, (self["split"], fold)))
        recipe = "-".join(filter(None, (self["recipe"], start, size, self["target"])))
        return f"{self['dataset']}.{split}.{self['model']}.{recipe}.seed{self['seed']}"

    @property
    def chapter(self) -> str:
        """The notebook that makes it, below the repository; a probe has none."""
        if self["target"] == "findings":
            return XRAYS
        if self["model"] in LOCALISERS:
            return LOCALISATION
        if self["model"] in SEGMENTERS:
            return SEGMENTATION
        if self["pretrained"] is not None:
            return TRANSFER
        return MULTI if self["model"] in MULTITASK else CLASSIFICATION

    def parameters(self, weights: str = "imagenet", minutes: int = 0) -> dict[str, str]:
        """Parameters of the chapter as `utils.headless` takes them; `weights` where the network is pretrained."""
        fields_given = {name: self[name] for name in (*ALWAYS, *self.run)} | {"quick": bool(self["quick"])}
        pretrained = fields_given.pop("pretrained", None)
        if self["split"] == "patient":
            fields_given["fold"] = self["fold"]
        else:
            fields_given.pop("fold", None)
        optional = {"weights": None if pretrained is None else weights if pretrained else ""}
        optional |= {"trials": 0 if self.chapter == TRANSFER else None, "epochs": self.epochs or None}
        optional |= {"precision": self.precision if self.precision != "no" else None, "time_budget": minutes or None}
        given = {CALLED[self.chapter].get(name, name): value for name, value in fields_given.items()}
        given |= {name: value for name, value in optional.items() if value is not None}
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in given.items() if k}

    def command(self, weights: str = "imagenet", minutes: int = 0) -> list[str]:
        """What follows `python` on the command line; after `minutes` a training ends with its epoch, 0: never."""
        if self.is_probe:
            words = ["-m", "utils.report.probes", self["dataset"], "--backbone", self["model"]]
            words += ["--weights", weights, "--image-size", str(self["image_size"]), "--precision", self.precision]
            return words + ["--target", self["target"]] * (self["target"] != DEFAULTS["target"])
        pairs = [word for pair in self.parameters(weights, minutes).items() for word in ("-p", *pair)]
        return ["-m", "utils.headless", self.chapter, *pairs]


def row_of(record: Mapping, group: str) -> Row | None:
    """The row that makes a record anew; None of a baseline or of pooled folds, which no command makes alone."""
    if not record["recipe"] or record.get("pooled"):
        return None
    given = {name: value for name, value in record["run"].items() if name in ALWAYS or value != DEFAULTS.get(name)}
    return Row(group=group, run=given, epochs=record["recipe"]["epochs"])


def file_name(name: str) -> str:
    """`name` as the name of a file."""
    return re.sub(r"[^\w.-]", "_", name)
