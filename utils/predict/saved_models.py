"""The models in `saved_models/`: the table of them, which is taken by default, and how one is named."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.catalog import CATALOG, HEALTHY, DataError
from datasets.reading import read_json
from datasets.store.index import folds_digest
from utils.predict.model import SavedModel
from utils.report.weights import CARD, HUB, WEIGHTS, fetch, find_weights
from utils.run import output_root

BEST = "best"
NOTHING = "–"
GENERATED = {name for name, facts in CATALOG.items() if facts.layout == "generated"}  # sets of no patients
NEEDED = ("trained_on", "training", "test")  # entries of a card that are read here


def cards(root: Path | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and card of every model in `saved_models/`, by name; `DataError` where a card is damaged."""
    root = root or output_root() / "saved_models"
    for path in sorted(root.glob(f"*/*/*/{CARD}"), key=lambda path: path.parent.name):
        if path.with_name(WEIGHTS).is_file():
            yield path.parent, read_json(path, needs=NEEDED)


def best(root: Path | None = None) -> Path:
    """Folder of the model that is asked by default.

    Of the models of real patients that were split by patient, name the label, and can say "no tumour", it is the one
    with the highest accuracy on validation patients. Each accuracy is of the validation patients of the model's own
    data set and fold, so those of two data sets are compared although they are of other images. Models of the present
    folds go before those of earlier ones. Test results decide nothing.

    Raises:
        DataError: no such model.
    """
    able = [
        (not on_old_folds(card), card["training"].get("val_accuracy", 0.0), folder.name, folder)
        for folder, card in cards(root)
        if _is_candidate(card)
    ]
    if not able:
        raise DataError("saved_models/ holds no classifier of real patients that was split by patient; name a model")
    return max(able)[-1]


def on_old_folds(card: dict[str, Any]) -> bool:
    """Whether a model was trained on other groups and folds than are committed now."""
    digest = folds_digest(card["trained_on"]["dataset"])
    return bool(digest) and card["trained_on"]["data"].get("folds") != digest


def folders_of(name: str) -> list[Path]:
    """Folders of the models that `name` stands for.

    Args:
        name: `best`, the name of a run in `saved_models/`, several with commas between, a folder or weight file of a
            model, a folder of folders of models (of the folds of one run, say), or `hf-hub:OWNER/NAME`.

    Raises:
        DataError: nothing there; `UnknownName` with the nearest name.
    """
    if _is_list(name):
        parts = [part.strip() for part in name.split(",") if part.strip()]
        if not parts:
            raise DataError(f"'{name}' names no model; take names from the list, with commas between")
        return [folder for part in parts for folder in folders_of(part)]
    if name == BEST:
        return [best()]
    if name.startswith(HUB):
        return [fetch(name)]
    path = Path(name)
    if path.is_file():
        return [path.parent]
    if path.is_dir():
        inside = [path] if (path / CARD).is_file() else [card.parent for card in sorted(path.glob(f"*/{CARD}"))]
        if not inside:
            raise DataError(f"{path}: no {CARD} in this folder, nor in those in it, so there is no model")
        return inside
    if len(path.parts) > 1:
        raise DataError(f"{name}: not there; take a name from the list, a folder or {WEIGHTS} of a model")
    return [find_weights(name).parent]


def names_a_model(text: str) -> bool:
    """Whether the first argument of a command is a model rather than a file to predict."""
    if text == BEST or text.startswith(HUB) or _is_list(text):
        return True
    path = Path(text)
    if path.is_dir():
        return (path / CARD).is_file() or bool(list(path.glob(f"*/{CARD}")))
    return path.name == WEIGHTS or not path.exists()


def _is_list(text: str) -> bool:
    """Whether these are several names with commas between, and no file or folder with a comma in its name."""
    return "," in text and not os.path.exists(text)  # also of a text that is too long for a path


def open_models(name: str) -> list[SavedModel]:
    """The models that `name` stands for, loaded; see `folders_of`."""
    return [SavedModel(folder / WEIGHTS) for folder in folders_of(name)]


def rows(root: Path | None = None) -> list[dict[str, str]]:
    """A line a model: what it is, how it scored on its test set, whether it is calibrated, its size."""
    found = list(cards(root))
    chosen = best(root) if any(_is_candidate(card) for _, card in found) else None
    lines = []
    for folder, card in found:
        metric, entry = next(iter(card["test"].items()))
        run = card["trained_on"]
        split = f"patient fold {run['fold']}" if run["split"] == "patient" else run["split"]
        lines.append(
            {
                "model": folder.name + (" *" if folder == chosen else ""),
                "answers": ", ".join(card.get("classes") or card["masks"]),
                "tested": split + (" (earlier)" if run["split"] == "patient" and on_old_folds(card) else ""),
                "test result": f"{metric} {_ci(entry)}",
                "calibrated": "yes" if "calibration" in card else "no",
                "warns": "yes" if "familiarity" in card else "no",
                "MB": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}",
            }
        )
    return lines


def _is_candidate(card: dict[str, Any]) -> bool:
    run = card["trained_on"]
    by_label = run["split"] == "patient" and run.get("target") in (None, "label") and HEALTHY in card.get("classes", ())
    return by_label and run["dataset"] not in GENERATED


def _ci(entry: dict[str, float | None]) -> str:
    value, low, high = (
        NOTHING if entry[key] is None else f"{100 * entry[key]:.1f}" for key in ("value", "low", "high")
    )
    return f"{value} % ({low}–{high})"
