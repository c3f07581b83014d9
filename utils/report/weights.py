"""Saves and loads weights with a card beside them, which says what a model is, what it expects and how it scored."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from datasets import catalog
from datasets.catalog import HEALTHY, DataError, lookup
from datasets.commands import NOTE
from datasets.reading import reading
from datasets.store.index import packed_by
from datasets.store.manifest import sha256
from datasets.store.preprocess import Preparation
from models import LOCALISERS, MODELS, MULTITASK, PRETRAINABLE, SEGMENTERS, build_backbone
from utils.files import replacing
from utils.run import Run
from utils.saved_models import CARD, HUB, SPLIT_LIMIT, WEIGHTS, find_weights, read_card, write_card
from utils.training.tasks import TASKS

HUB_FILES = (CARD, "*.safetensors")  # nothing that would have to be unpickled
USE = "Research and teaching on slices like those of its training set. Never for a patient."
LIMIT = "Its test results are of one data set alone; on images of other scanners and hospitals expect worse."
HEALTHY_LIMIT = (
    "Images without a tumour come from other sources than those with one, so the model may tell sources apart."
)
JOINED_LIMIT = (
    "In some of the collections that it was trained on, images without a tumour come from other sources than those "
    "with one, so the model may tell sources apart."
)
PATIENT_LIMIT = "Its test set is one patient, so nothing is known of others."
OF_RECIPE = ("name", "source", "epochs", "lr", "batch_size", "augmentation")  # what a card says of it


def save_weights(model: nn.Module, run: Run, record: dict) -> Path:
    """Write `model.safetensors` and its card (how to build and feed it, and what it scored); the weights' path."""
    path = run.weights_folder / WEIGHTS
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
        digest = sha256(temporary)
    task, recipe = TASKS[run.task], record["recipe"]
    card = {"model": run.model, "task": run.task} | task.to_card(run, model)
    card["arguments"] |= recipe["model_args"]
    card |= {
        "input": expected_input(run),
        "trained_on": record["run"] | {"data": record["data"]},
        "training": record["training"],
        "test": {name: record["metrics"][name] for name in task.reported},
        "licence_of_data": catalog.get(run.dataset).licence,
        "note": NOTE,
    }
    if record.get("outline"):  # of a network that names images and outlines tumours
        card["test"]["dice"] = record["outline"]["dice"]
    if run.task == "findings" and "thresholds" in record:
        card["thresholds"] = record["thresholds"]
    card |= {"recipe": {name: recipe[name] for name in OF_RECIPE}, "intended_use": USE}
    card |= {"limits": limits_of(run, card.get("classes", ()), record["groups"]), "sha256": digest}
    write_card(path.parent, card)
    return path


def limits_of(run: Run, classes: Sequence[str], groups: int) -> list[str]:
    """What the test results of a run do not say; `groups` is the number of tested ones."""
    limits = [LIMIT]
    if groups == 1:
        limits.append(PATIENT_LIMIT)
    facts = catalog.get(run.dataset)
    if HEALTHY in classes and facts.layout != "generated":  # the phantom has one source
        limits.append(JOINED_LIMIT if facts.joins else HEALTHY_LIMIT)
    if run.split not in ("patient", "external") and run.task != "findings":  # both lists of X-rays are by patient
        limits.append(SPLIT_LIMIT)
    return limits


def expected_input(run: Run) -> dict:
    """The input that a model expects, as data: how `Preparation.of_card` prepares a publisher's image for it."""
    facts, task = catalog.get(run.dataset), TASKS[run.task]
    channels = facts.channels if task.channels == "all" else (facts.channels[facts.grey],)
    crop, stored_size = packed_by(run.dataset)
    seen = {"channels": channels, "view": run.view, "size": run.image_size, "scaling": task.scaling}
    return Preparation(crop=crop, stored_size=stored_size, **seen).as_card()


def fetch(name: str) -> Path:
    """Folder of the model `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`, downloaded or from the hub's cache;
    raises `DataError` where there is no such model, no network, or no card or weights in it."""
    from huggingface_hub import snapshot_download  # brings httpx and more, for this alone

    repository, _, revision = name.removeprefix(HUB).partition("@")
    with reading(name, "check the name and the network", "cannot be fetched"):
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(HUB_FILES)))
    if missing := [file for file in (CARD, WEIGHTS) if not (folder / file).is_file()]:
        raise DataError(f"{name}: holds no {' and no '.join(missing)}; it was not made by this project")
    return folder


def load_weights(path: Path | str) -> nn.Module:
    """The model that the card beside `path` describes, with its weights, ready to predict.

    Args:
        path: of `model.safetensors` or its folder, the name of a run in `saved_models/` (see `find_weights`), or
            `hf-hub:OWNER/NAME` (see `fetch`). Nothing is ever unpickled.

    Raises:
        DataError: card or weights missing, unreadable, damaged, or not of one another.
        UnknownName: no run of that name has weights; with the nearest name.
    """
    path = fetch(path) if str(path).startswith(HUB) else Path(path)
    if path.is_dir():
        path /= WEIGHTS
    elif len(path.parts) == 1 and not path.exists() and path.suffix != Path(WEIGHTS).suffix:
        path = find_weights(str(path))
    if not path.is_file():
        raise DataError(f"{path}: not there; take the path of {WEIGHTS}, or the name of a run in saved_models/")
    with reading(path, "fetch both again", "cannot be loaded with the card beside it"):
        card = read_card(path.with_name(CARD), ("sha256",))
        if card["sha256"] != sha256(path):
            raise DataError(f"{path}: its SHA-256 is not that of the card beside it: damaged or replaced. Fetch both.")
        name, arguments = card["model"], card["arguments"]
        if card["trained_on"].get("pretrained") is not None and name not in LOCALISERS:
            build = PRETRAINABLE.get(name) or partial(build_backbone, name)
            return build(pretrained=path, **arguments).eval()  # the file shows which layout it has (`models/gluon.py`)
        model = lookup(MODELS | SEGMENTERS | MULTITASK | LOCALISERS, name, "model")(**arguments)
        model.load_state_dict(load_file(path))
        return model.eval()
