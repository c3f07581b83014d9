"""Finds the saved models and reads their cards. It imports no torch: a list of them need not wait for that."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets import catalog
from datasets.catalog import CATALOG, HEALTHY, DataError, lookup
from utils.files import output_root, read_sealed

WEIGHTS, CARD = "model.safetensors", "card.json"
BEST = "best"
HUB = "hf-hub:"  # before the name of a model on Hugging Face's hub, as timm has it
NEEDED = ("trained_on", "training", "test")  # entries of a card that the list reads


def saved_weights() -> dict[str, Path]:
    """Weights by name of the run: those in `saved_models/` of the output, then those that are committed."""
    roots = (catalog.REPO, output_root())
    return {path.parent.name: path for root in roots for path in sorted(root.glob(f"saved_models/*/*/*/{WEIGHTS}"))}


def find_weights(name: str) -> Path:
    """The weights of a run in `saved_models/`, see `saved_weights`; raises `UnknownName` with the nearest name."""
    return lookup(saved_weights(), name, "model")


def read_card(path: Path, needs: Iterable[str] = ()) -> dict[str, Any]:
    """A card; `DataError` where it cannot be read, lacks one of `needs`, or is not as it was written."""
    return read_sealed(path, f"fetch it again with its {WEIGHTS}", needs)


def cards() -> list[tuple[Path, dict[str, Any]]]:
    """Folder and card of every saved model, by name; `DataError` where a card is damaged."""
    folders = [path.parent for _, path in sorted(saved_weights().items()) if path.with_name(CARD).is_file()]
    return [(folder, read_card(folder / CARD, NEEDED)) for folder in folders]


def best() -> Path:
    """Folder of the model that is asked by default; `DataError` where there is none.

    Of the models of real patients that were split by patient, name the label, and can say "no tumour", it is the one
    with the highest accuracy on the validation patients of its own data set and fold. Test results decide nothing.
    """
    able = [
        (card["training"].get("val_accuracy", 0.0), folder.name, folder)
        for folder, card in cards()
        if card["trained_on"]["split"] == "patient"
        and card["trained_on"].get("target", "label") == "label"
        and HEALTHY in card.get("classes", ())
        and CATALOG[card["trained_on"]["dataset"]].layout != "generated"
    ]
    if not able:
        raise DataError("saved_models/ holds no classifier of real patients that was split by patient; name a model")
    return max(able)[-1]


def names_a_model(text: str) -> bool:
    """Whether the first argument of a command is a model rather than a file to predict."""
    return text == BEST or not os.path.exists(text) or os.path.isfile(os.path.join(text, CARD))


def rows() -> list[dict[str, str]]:
    """A line a model: what it is, how it scored on its test set, whether it is calibrated, its size."""
    found, chosen = cards(), None
    with suppress(DataError):  # none can be the default
        chosen = best()
    lines = []
    for folder, card in found:
        metric, entry = next(iter(card["test"].items()))
        run, line = card["trained_on"], {"model": folder.name + (" *" if folder == chosen else "")}
        line["answers"] = ", ".join(card.get("classes") or card["masks"])
        line["tested"] = f"patient fold {run['fold']}" if run["split"] == "patient" else run["split"]
        line["test result"] = f"{metric} {percent(entry)}"
        for name, entry in (("calibrated", "calibration"), ("warns", "familiarity")):
            line[name] = "yes" if entry in card else "no"
        lines.append(line | {"MB": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}"})
    return lines


def percent(entry: dict[str, float | None]) -> str:
    """A share {value, low, high} in percent with its interval, as far as it is known."""
    if entry["value"] is None:
        return "an unknown share"
    limits = "" if None in (entry["low"], entry["high"]) else f" ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"
    return f"{100 * entry['value']:.1f} %{limits}"
