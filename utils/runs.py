"""A run and what it leaves: its id, its folder, and the evidence in `saved_metrics/` and `saved_models/`.

Tables in the README and the notebooks are read back from here (`load_runs`, then `tables.py`), never typed.
"""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.protocols import PROTOCOLS
from datasets.store import require
from datasets.views import VIEWS
from models import BACKBONES, MODELS, MULTITASK, SEGMENTERS
from utils.baselines import BASELINES, NEAREST_MASK, PIXELS
from utils.recipes import Recipe
from utils.training import Fit

VERSIONS = ("torch", "torchvision", "timm", "accelerate", "kornia", "monai", "scikit-learn", "numpy")
CODE = ("models", "datasets", "utils", "notebooks", "requirements.txt")
NO_RECIPE = "none"
FULL_SIZE = 128  # pixels of S2's input; smaller runs are tries and answer no published number
CARD_METRICS = {
    "classification": ("accuracy", "macro_f1", "macro_auc"),
    "multitask": ("accuracy", "macro_f1", "macro_auc"),
    "transfer": ("accuracy", "macro_f2", "macro_auc"),
    "segmentation": ("dice", "iou", "hd95"),
}
CARD = "Trained for research and teaching. Not a medical device."


@dataclass(frozen=True)
class Run:
    """What is run; `id` says it all, for example `brain-tumor-mri.patient-f0.CustomCNN.s2.seed0`.

    `fold` None stands for the five patient folds together. `test_on` is the set that `external` tests on, `view`
    what was done to every image (`datasets.views.VIEWS`). U-Nets alone have `n_filters`, and sets of
    volumes a `selection` of slices (`protocols.SELECTIONS`). A backbone has a `start`, "warm" from pretrained weights
    or "cold".

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
    start: str = ""

    def __post_init__(self):
        catalog.get(self.dataset)
        lookup(PROTOCOLS, self.split, "split")
        models = MODELS | SEGMENTERS | MULTITASK
        lookup((BACKBONES if self.start else models) | BASELINES | {NEAREST_MASK: None}, self.model, "model")
        lookup(VIEWS, self.view, "view")

    @property
    def id(self) -> str:
        part = f"f{self.fold}" if self.split == "patient" and self.fold is not None else self.test_on
        how = [self.recipe] + [self.start] * bool(self.start) + [f"n{self.n_filters}"] * bool(self.n_filters)
        if self.recipe != NO_RECIPE and self.image_size != 128:
            how.append(f"{self.image_size}px")
        how += [self.view] * (self.view != "stored") + [self.selection] * (self.selection != "all")
        how += ["quick"] * self.quick
        where = "-".join([self.split, part] if part else [self.split])
        return f"{self.dataset}.{where}.{self.model.replace(' ', '-')}.{'-'.join(how)}.seed{self.seed}"

    @property
    def task(self) -> str:
        if self.start:
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
        """Quick runs are tries, not evidence: theirs stay in the working folder."""
        return self.folder if self.quick else output_root() / "saved_metrics"

    @property
    def weights_folder(self) -> Path:
        return self.folder if self.quick else output_root() / "saved_models"

    def baseline(self, kind: str) -> "Run":
        """The run of a baseline on the same data; it has no recipe and no seed to vary."""
        return replace(self, model=kind, recipe=NO_RECIPE, seed=0, image_size=PIXELS, n_filters=0, start="")


def output_root() -> Path:
    """`$BRAIN_MRI_OUTPUT`, or the repository."""
    return Path(os.environ.get("BRAIN_MRI_OUTPUT") or catalog.REPO).expanduser().resolve()


def fingerprint(name: str) -> dict[str, str | int]:
    """Which data a run saw: number of images and SHA-256 of the manifest and of the packed images."""
    folder = require(name)
    out: dict[str, str | int] = {"images": sum(1 for _ in (folder / "manifest.csv").open()) - 1}
    for file in ("manifest.csv", "images.h5"):
        with (folder / file).open("rb") as stream:
            out[file] = hashlib.file_digest(stream, "sha256").hexdigest()
    return out


def hardware() -> dict[str, str | int]:
    """Processor, cores and threads used, and the GPU where there is one."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    return {"cpu": cpu, "cores": os.cpu_count() or 0, "threads": torch.get_num_threads()} | {
        "gpu": gpu,
        "processes": processes,
    }


def git_revision() -> str:
    """Commit of the code, with `+changes` where code that a run uses differs from it; "" outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", "-C", catalog.REPO, *words), capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", *CODE)
    return git("rev-parse", "HEAD") + ("+changes" if changed else "")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def save_run(
    run: Run,
    result: dict,
    predictions: pd.DataFrame,
    *,
    model: nn.Module | None = None,
    recipe: Recipe | None = None,
    fit: Fit | None = None,
    parts: dict[str, int] | None = None,
) -> Path:
    """Write the evidence of a run and return its JSON's path; only the first of several processes writes.

    Args:
        result: from `evaluation.evaluate`; predictions: the table it was made of.
        model, recipe, fit: None for a baseline. Weights go to `saved_models/` with a card beside them.
        parts: number of images in train, val and test.
    """
    path = run.metrics_folder / f"{run.id}.json"
    if int(os.environ.get("RANK", 0)):
        return path
    printed = recipe.published.get(f"{run.dataset}/{run.split}") if recipe and run.image_size >= FULL_SIZE else None
    record = {
        "id": run.id,
        "task": run.task,
        "run": asdict(run),
        "recipe": asdict(recipe) if recipe else None,
        "parameters": sum(p.numel() for p in model.parameters()) if model else 0,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad) if model else 0,
        "parts": parts or {},
        "data": fingerprint(run.dataset),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "git": git_revision(),
        "hardware": hardware(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "training": training_facts(fit) if fit else None,
        "published": {"source": recipe.source} | dict(printed) if printed else None,
        **result,
    }
    write_atomically(run.metrics_folder / f"{run.id}.predictions.csv", predictions.to_csv(index=False))
    if fit:
        write_atomically(run.metrics_folder / f"{run.id}.history.csv", fit.history.to_csv(index=False))
    if model:
        save_weights(model, run, record)
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    return path


def training_facts(fit: Fit) -> dict:
    """Epochs, time, and what validation said of the weights that were kept."""
    kept = fit.history[fit.history.epoch == fit.epoch].iloc[0]
    validation = {name: float(kept[name]) for name in kept.index if name.startswith("val_")}
    return {"epochs": len(fit.history), "epoch_kept": fit.epoch, "seconds": fit.seconds} | validation


def save_weights(model: nn.Module, run: Run, record: dict) -> Path:
    """`ID.safetensors` and its JSON card (what it is, what it expects, what it scored)."""
    path = run.weights_folder / f"{run.id}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    os.replace(temporary, path)
    facts = catalog.get(run.dataset)
    if run.task == "segmentation":
        arguments = {"in_channels": len(facts.channels), "out_channels": len(facts.mask_channels)}
        what = {
            "arguments": arguments | record["recipe"]["model_args"],
            "masks": list(facts.mask_channels),
            "input": f"{', '.join(facts.channels)}; each slice and channel scaled to [0, 1] by its own range",
        }
    elif run.task == "multitask":
        what = {
            "arguments": {"in_channels": model.in_channels} | record["recipe"]["model_args"],
            "classes": list(facts.classes),
            "input": "grey image cropped to the head, scaled to [0, 1]; sides divisible by 16",
        }
    else:
        arguments = {"num_classes": len(facts.classes), "in_channels": model.in_channels}
        what = {
            "arguments": arguments | {"image_size": run.image_size} | record["recipe"]["model_args"],
            "classes": list(facts.classes),
            "input": "grey image cropped to the head, repeated to all channels, scaled to [0, 1]",
        }
    card = {
        "model": run.model,
        **what,
        "trained_on": record["run"] | {"data": record["data"]},
        "training": record["training"],
        "test": {name: record["metrics"][name] for name in CARD_METRICS[run.task]},
        "licence_of_data": facts.licence,
        "note": CARD,
    }
    write_atomically(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path


def save_findings(name: str, findings: dict, quick: bool = False) -> Path:
    """Write what curation found in data set `name` to `saved_metrics/curation/NAME.json`; returns its path.

    Quick tries go to the working folder, as those of runs do. Only the first of several processes writes.
    """
    folder = output_root() / ("runs/curation" if quick else "saved_metrics/curation")
    record = {"dataset": name, "data": fingerprint(name), "git": git_revision(), "hardware": hardware()}
    record |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")} | findings
    if not int(os.environ.get("RANK", 0)):
        write_atomically(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return folder / f"{name}.json"


def load_weights(path: Path) -> nn.Module:
    """The model that the card beside `path` describes, with its weights, ready to predict.

    Raises:
        DataError: card or weights missing, unreadable, or not of one another.
    """
    try:
        card = json.loads(Path(path).with_suffix(".json").read_text())
        # S2's VGG16 and the backbone of that name: only a backbone has a head to choose.
        known = BACKBONES if "head" in card["arguments"] else MODELS | SEGMENTERS | MULTITASK
        model = lookup(known, card["model"], "model")(**card["arguments"])
        model.load_state_dict(load_file(path))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be loaded with the card beside it ({error}). Fetch both again.") from error
    return model.eval()


def load_runs(folder: Path | None = None, task: str = "classification") -> list[dict]:
    """All run records of a folder (`saved_metrics/` by default) that answer `task`, by id."""
    folder = folder or output_root() / "saved_metrics"
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [record for record in records if Run(**record["run"]).task == task]


def load_history(record: dict, folder: Path | None = None) -> pd.DataFrame:
    """The epochs of a run record, from the file beside it; `folder` as in `load_runs`."""
    return pd.read_csv((folder or output_root() / "saved_metrics") / f"{record['id']}.history.csv")


def load_predictions(record: dict, folder: Path | None = None) -> pd.DataFrame:
    """The test pictures of a run record, from the file beside it; of pooled folds, from those of the folds."""
    folder = folder or output_root() / "saved_metrics"
    files = [folder / f"{name}.predictions.csv" for name in record.get("pooled") or [record["id"]]]
    return pd.concat([pd.read_csv(f, dtype={"group": str, "patient": str}) for f in files], ignore_index=True)


def load_findings(folder: Path | None = None) -> list[dict]:
    """All findings of curation in a folder (`saved_metrics/curation/` by default), by data set."""
    folder = folder or output_root() / "saved_metrics/curation"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@dataclass(frozen=True)
class Evidence:
    """All that lies in a folder of evidence: the records of each task, and the findings of curation."""

    folder: Path
    classification: list[dict]
    segmentation: list[dict]
    multitask: list[dict]
    transfer: list[dict]
    findings: list[dict]


def load_evidence(folder: Path | None = None) -> Evidence:
    """What tables and figures are made of; `folder` is `saved_metrics/` by default."""
    folder = folder or output_root() / "saved_metrics"
    tasks = (load_runs(folder, task) for task in ("classification", "segmentation", "multitask", "transfer"))
    return Evidence(folder, *tasks, load_findings(folder / "curation"))
