"""Finds the saved models and reads their cards. It imports no torch: a list of them need not wait for that."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets import catalog
from datasets.catalog import CATALOG, HEALTHY, DataError, lookup
from utils.files import output_root, read_sealed, write_atomically, write_sealed

WEIGHTS, CARD, README = "model.safetensors", "card.json", "README.md"
SPLIT_LIMIT = "Its test set holds images of patients that it was trained on, so its test results are optimistic."
SCORES = {  # test result → what it says of a model
    "accuracy": "it named {} of the images right",
    "dice": "the Dice coefficient of its outlines was {}",
    "macro_auc": "the mean AUC of its findings was {}",
}
CREATIVE = re.compile(r"CC BY(-\w\w)* \d\.\d")  # licences that the hub knows by these names
HUB_TAGS = ["mri", "brain-tumor", "medical-imaging", "pytorch"]
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


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a card, and what Hugging Face's hub shows of the model; `DataError` as of `about`."""
    write_atomically(folder / README, model_card(folder.name, card))
    write_sealed(folder / CARD, card)


def model_card(name: str, card: dict[str, Any]) -> str:
    """The README.md of a model on Hugging Face's hub: facts as YAML, then what the card says."""
    from huggingface_hub import EvalResult, ModelCardData  # which the list need not wait for

    run, licence, names = card["trained_on"], card["licence_of_data"], card.get("classes") or card["masks"]
    task, creative = f"image-{'classification' if 'classes' in card else 'segmentation'}", CREATIVE.fullmatch(licence)
    scores = {name: entry["value"] for name, entry in card["test"].items() if entry["value"] is not None}
    tested = {"task_type": task, "dataset_type": run["dataset"], "dataset_name": run["test_on"] or run["dataset"]}
    facts = ModelCardData(
        license=licence.replace(" ", "-").lower() if creative else "other",
        license_name=None if creative else "that-of-the-training-data",
        library_name="honest-brain-mri",
        pipeline_tag=task,
        tags=HUB_TAGS,
        datasets=[run["dataset"]],
        metrics=[*scores],
        model_name=name,
        eval_results=[EvalResult(**tested, metric_type=key, metric_value=value) for key, value in scores.items()],
    )
    lines = [
        f"# {name}",
        f"{card['model']}: {', '.join(names)}. {card['intended_use']} {card['note']}",
        *about(card),
        f"Licence of the training data, which may also bind the weights: {licence}.",
        f"Asked by `python -m utils.predict {HUB}OWNER/{name} FILE`. Of `{CARD}`, which says what is done to an image "
        "before, this page is made.",
    ]
    return f"---\n{facts.to_yaml()}\n---\n" + "\n\n".join(lines) + "\n"


def about(card: dict[str, Any]) -> list[str]:
    """Sentences on how far to believe a model: how often it was right on test images of its own collection, what it
    finds in another one, and its limits. Every number in them stands on the card.

    Raises `DataError` where an entry of the card is missing or is of another kind.
    """
    try:
        run, test, limits = card["trained_on"], card["test"], card["limits"]
        main = next(iter(test))
        scores = [SCORES[name].format(percent(test[name])) for name in test if name in (main, "dice")]
        patients = "some of patients that it" if SPLIT_LIMIT in limits else "none of patients that it"
        data = (
            f"another collection, '{run['test_on']}'" if run["test_on"] else f"its own collection, '{run['dataset']}'"
        )
        found = [f"On test images of {data}, {patients} was trained on, {' and '.join(scores)}."]
        home = card.get("calibration", {}).get("at_threshold_on_test")
        if home and not ("survey" in card and run["test_on"]):  # whose survey is of the same images
            counts = [home[name]["images"] for name in ("sensitivity", "specificity")]
            found.append(f"At its threshold it found there {_rates(home, *counts)}.")
        if survey := card.get("survey"):
            for kind, one in survey.items():
                likely, none = percent(one["tumour likely"]), percent(one["none found"])
                said = f"it said 'tumour likely' to {likely} and 'none found' to {none}"
                found.append(f"Asked about {one['images']} images, '{kind}', {said}.")
        elif other := card.get("elsewhere"):
            rates = _rates(other, other["tumours"], other["healthy"])
            found.append(f"Elsewhere, on '{other['data']}', its likeliest class found {rates}.")
        elif not run["test_on"]:
            found.append("It was not tested on images of another collection.")
        if others := card.get("left_out"):
            pairs = " and ".join(f"{percent(one)} ('{name}')" for name, one in others.items())
            found.append(
                "Made the same way without one of its collections, it ranked a tumour of that one above a healthy "
                f"image of it in {pairs} of all pairs; half is chance."
            )
        if HEALTHY in card.get("classes", ()) and len(card["classes"]) == 2:
            found.append("It does not name the kind of a tumour; models of more classes do.")
        return [*found, " ".join(limits)]
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise DataError(f"an entry is missing or of another kind ({error!r}); fetch the model again") from error


def _rates(rates: dict[str, Any], tumours: int, healthy: int) -> str:
    """Sensitivity and specificity in words; either may not be known."""
    said = {"sensitivity": f"a tumour in {{}} of {tumours:,} images with one"}
    said["specificity"] = f"none in {{}} of {healthy:,} without"
    unknown = "an unknown share (too few images)"
    return " and ".join(text.format(percent(rates[name]) if rates[name] else unknown) for name, text in said.items())


def cards() -> list[tuple[Path, dict[str, Any]]]:
    """Folder and card of every saved model, by name; `DataError` where a card is damaged."""
    folders = [path.parent for _, path in sorted(saved_weights().items()) if path.with_name(CARD).is_file()]
    return [(folder, read_card(folder / CARD, NEEDED)) for folder in folders]


def best() -> Path:
    """Folder of the model that is asked by default; `DataError` where there is none.

    Of the models of real patients that can say "no tumour" and were validated on patients apart, it is one of a joined
    set if there is any, whose recipe is chosen by leaving each source out, since a reader's image is of a new one; of
    several the one with the highest accuracy on its validation patients. Test results decide nothing.
    """
    able = []
    for folder, card in cards():
        run, facts = card["trained_on"], CATALOG[card["trained_on"]["dataset"]]
        names = run.get("target", "label") == "label" and HEALTHY in card.get("classes", ())
        if names and run["split"] in ("patient", "external") and facts.layout != "generated":
            able.append((bool(facts.joins), card["training"].get("val_accuracy", 0.0), folder.name, folder))
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
        line["tested"] = f"patient fold {run['fold']}" if run["split"] == "patient" else run["test_on"] or run["split"]
        line["tested"] += ", optimistic" if SPLIT_LIMIT in card.get("limits", ()) else ""
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
