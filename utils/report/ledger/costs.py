"""What a row of the ledger costs, measured from runs that are done: core-hours, and minutes on a GPU.

seconds of a row = seconds an image and epoch of a run of the same network × images × epochs, and × (side / side)² where
only another image size was run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets import catalog
from utils.recipes import get_recipe
from utils.report.ledger.rows import PROBE, Row


@dataclass(frozen=True)
class Cost:
    """Core-hours or GPU-minutes; `source` is the id of the run that it was measured from."""

    value: float
    source: str


def cost(row: Row, records: Sequence[Mapping], gpu: bool = False) -> Cost | None:
    """Core-hours of a row, or GPU-minutes; None where nothing was measured on a CPU, or on a GPU.

    Of the records that fit, one of the same recipe is taken, then of the nearest image size, then of the same data set,
    then the last one.
    """
    if row.is_probe:
        return _probe_cost(row, records, gpu)
    found = [r for r in records if _fits(row, r, gpu) and r.get("training") and r["parts"].get("val")]
    images = training_images(row, records)
    if not found or not images:
        return None
    best = max(found, key=lambda r: (*_likeness(row, r), r["finished"]))
    epochs = row.epochs or get_recipe(row["recipe"], row["model"]).epochs
    an_image = best["training"]["seconds"] / (best["training"]["epochs"] * best["parts"]["train"])
    return _in_units(an_image * images * epochs * _growth(row, best), best, gpu)


def _probe_cost(row: Row, records: Sequence[Mapping], gpu: bool) -> Cost | None:
    """One pass over the data set, and the logistic regressions of all splits."""
    found = [r for r in records if _fits(row, r, gpu) and r["run"]["recipe"] == PROBE and "features" in r["probe"]]
    if not found:
        return None
    best = max(found, key=lambda r: (*_likeness(row, r), r["finished"]))
    features = best["probe"]["features"]
    a_pass = features["seconds"] / features["images"] * catalog.get(row["dataset"]).images * _growth(row, best)
    return _in_units(a_pass + len(row.runs()) * best["probe"]["seconds"], best, gpu)


def _fits(row: Row, record: Mapping, gpu: bool) -> bool:
    hardware, run = record.get("hardware"), record["run"]
    same = run["model"] == row["model"] and run["n_filters"] == row["n_filters"] and not record.get("pooled")
    return same and bool(hardware) and bool(hardware["gpu"]) == gpu


def _likeness(row: Row, record: Mapping) -> tuple[bool, float, bool]:
    run = record["run"]
    growth = _growth(row, record)
    return run["recipe"] == row["recipe"], -max(growth, 1 / growth), run["dataset"] == row["dataset"]


def _growth(row: Row, record: Mapping) -> float:
    return (row["image_size"] / record["run"]["image_size"]) ** 2


def _in_units(seconds: float, record: Mapping, gpu: bool) -> Cost:
    hardware = record["hardware"]
    if gpu:
        return Cost(seconds * hardware["processes"] / 60, record["id"])
    return Cost(seconds * hardware["threads"] * hardware["processes"] / 3600, record["id"])


def training_images(row: Row, records: Sequence[Mapping]) -> float:
    """Images that a row trains on: as in a run on the same split, else by the counts of the catalogue."""
    split = {name: row[name] for name in ("dataset", "split", "test_on", "selection")}
    same = [r["parts"] for r in records if all(r["run"].get(k) == v for k, v in split.items()) and r.get("parts")]
    facts = catalog.get(row["dataset"])
    if same:
        cut = same[0]["train"] + same[0].get("val", 0)  # older baselines count both as training
    elif row["split"] == "patient":
        cut = facts.images * (facts.folds - 1) / facts.folds
    else:
        cut = sum(facts.counts.get("train", {}).values()) if row["split"] == "published" else facts.images
    return cut * (1 - get_recipe(row["recipe"], row["model"]).val_fraction)
