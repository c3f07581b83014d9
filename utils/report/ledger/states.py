"""How far a row of the ledger is, by its records and checkpoints, and what it lacks to be run here."""

import os
import re
import warnings
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

from datasets import catalog
from datasets.catalog import REPO, DataError, UnknownName
from datasets.splitting import overlap_file
from datasets.store import index
from models import LOCALISERS, mobilenet_unet, outline_classifier
from models.backbones import SQUEEZENET, TIMM
from utils.parameters import read_parameters
from utils.recipes import get_recipe
from utils.report.ledger.rows import Row
from utils.report.records import METRICS, on_old_folds, run_folder
from utils.report.validate import read_record
from utils.run import Run

DONE, OLD_FOLDS, SHORT, BEGUN, ABSENT = "done", "old folds", "fewer epochs", "begun", "missing"
WEIGHTS = "BRAIN_MRI_WEIGHTS"
ENCODERS = {"OutlineClassifier": outline_classifier.BACKBONE, "MobileNetUNet": mobilenet_unet.BACKBONE}
COMMITTED = REPO / "saved_metrics"


def record_of(run: Run, here: bool = True) -> dict | None:
    """The record of a run: where it writes, if `here`, or the one that is committed."""
    committed = run_folder(COMMITTED, {"task": run.task, "run": {"dataset": run.dataset}, "id": run.id})
    folders = [run.metrics_folder] * here + [committed] * (not run.quick)
    found = next((folder / METRICS for folder in folders if (folder / METRICS).is_file()), None)
    try:
        return read_record(found) if found else None
    except DataError as error:
        warnings.warn(f"taken as missing: {error}", stacklevel=2)
        return None


def state_of(row: Row, here: bool = True) -> str:
    """One of the states above; of a probe, of which some splits are made, "begun".

    `here` False: by the committed records alone, whatever was run or begun on this machine.

    Raises:
        UnknownName, TypeError: a name or a field that this version does not know.
    """
    states = {_state(run, row, here) for run in row.runs()}
    return states.pop() if len(states) == 1 else BEGUN


def _state(run: Run, row: Row, here: bool) -> str:
    record = record_of(run, here)
    state = ABSENT
    if record:
        planned = 0 if row.is_probe or row["quick"] else row.epochs or get_recipe(run.recipe, run.model).epochs
        short = (record["recipe"] or {}).get("epochs", planned) < planned
        state = OLD_FOLDS if on_old_folds(record) else SHORT if short else DONE
    newer = here and any(not _belongs(path, record) for path in checkpoints(run))
    return BEGUN if newer and state != DONE else state


def checkpoints(run: Run) -> list[Path]:
    return sorted(run.folder.glob("checkpoint*.pt"))


def _belongs(checkpoint: Path, record: Mapping | None) -> bool:
    """Whether it was left by the training that the record is of: a record is written after the last epoch."""
    return bool(record) and checkpoint.stat().st_mtime <= datetime.fromisoformat(record["finished"]).timestamp() + 1


def forget_finished(row: Row) -> None:
    """Delete checkpoints of finished trainings that are to be made anew, since training would go on from them."""
    for run in row.runs():
        record = record_of(run)
        for path in checkpoints(run):
            if _belongs(path, record):
                path.unlink()


def unknown(row: Row) -> str:
    """What this version of the project lacks for a row, in words; "" where it has everything."""
    for name in filter(None, (row["dataset"], row["test_on"])):
        if name not in catalog.CATALOG:
            return f"data set '{name}' is not in the catalogue"
    try:
        row.runs()
        if row.is_probe:
            return ""
        get_recipe(row["recipe"], row["model"])
        if not (REPO / row.chapter).is_file():
            return f"this version has no {row.chapter}"
        known = read_parameters(REPO / row.chapter)
    except TypeError as error:
        return f"a run of this version has no such field: {error}"
    except UnknownName as error:
        return str(error)
    other = [name for name in row.parameters() if name not in known]
    if other:
        return f"{row.chapter} has no parameter '{other[0]}'"
    if row["split"] == "external" and not (index.SPLITS / overlap_file(row["dataset"], row["test_on"])).is_file():
        return f"no table of what '{row['dataset']}' and '{row['test_on']}' share: python -m datasets.curation"
    return ""


def lacks(row: Row) -> str:
    """What is not on this machine for a row that the project knows; "" where all is here."""
    for name in filter(None, (row["dataset"], row["test_on"])):
        try:
            index.require(name)
        except DataError:
            return f"data set '{name}' is not here: python datasets/download.py {name}"
    if row["pretrained"] and not weights_of(row["model"]):
        backbone = ENCODERS.get(row["model"], row["model"])
        return (
            f"ImageNet weights of {backbone} are not here: make weights BACKBONE={backbone}, "
            f"or a folder with their file in ${WEIGHTS}"
        )
    return ""


def weights_of(backbone: str) -> str:
    """Where a backbone's ImageNet weights are: a file in `$BRAIN_MRI_WEIGHTS`, "imagenet" in the cache, else "".

    Those of a network with an encoder are the encoder's, which `OutlineClassifier` takes from a file alone.
    """
    from_file, backbone = backbone in LOCALISERS, ENCODERS.get(backbone, backbone)
    folder = os.environ.get(WEIGHTS)
    if folder:
        files = [
            p for p in sorted(Path(folder).expanduser().resolve().glob("*")) if p.suffix in (".safetensors", ".pth")
        ]
        mine = [path for path in files if whose(path.stem) == backbone]
        if mine:
            return str(mine[0])
    return "imagenet" if not from_file and _in_cache(backbone) else ""


def whose(stem: str) -> str:
    """The backbone that a weight file is named after, by the longest name of ours or timm's that it begins with."""
    names = {_plain(ours): ours for ours in (*TIMM, SQUEEZENET)}
    names |= {_plain(tag.split(".")[0]): ours for ours, tag in TIMM.items()}
    fitting = [name for name in names if _plain(stem).startswith(name)]
    return names[max(fitting, key=len)] if fitting else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _in_cache(backbone: str) -> bool:
    """Whether timm or torchvision would find the weights without a network."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if backbone == SQUEEZENET:
        from torchvision.models import SqueezeNet1_1_Weights

        return (folder / Path(SqueezeNet1_1_Weights.IMAGENET1K_V1.url).name).is_file()
    import timm
    from huggingface_hub import try_to_load_from_cache

    facts = timm.get_pretrained_cfg(TIMM[backbone])
    if not facts.hf_hub_id:
        return (folder / Path(facts.url).name).is_file()
    kinds = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(facts.hf_hub_id, kind), str) for kind in kinds)
