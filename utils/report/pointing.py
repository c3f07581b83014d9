"""`python -m utils.report.pointing [RUN …]`: whether committed classifiers look at the tumour, as `pointing.json`.

Each network is asked about the test images of its own record (`predictions.csv.gz`), as far as their tumour is
outlined: in `cheng` all, in sets that are linked to it those that show its slices (`datasets/curation/masks.py`).
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from datasets.catalog import HEALTHY, DataError
from datasets.reading import read_json
from datasets.store.images import ImageDataset, scaled
from datasets.store.index import fingerprint, read_manifest, read_splits
from datasets.store.masks import mask_file
from utils.evaluation.pointing import pointing_table, summarise
from utils.report.records import POINTING, Evidence, load_evidence, run_folder, write_predictions, write_record
from utils.report.weights import CARD, WEIGHTS, find_weights, load_weights
from utils.run import output_root
from utils.training.environment import git_revision
from utils.training.tasks.multitask import joint_probabilities

CLASSIFIERS = ("classification", "transfer", "multitask", "localisation")
TABLE = "pointing.csv.gz"


def measure(path: Path, evidence: Evidence, resamples: int = 1000) -> Path:
    """Measure the network whose weights are at `path`, and write `pointing.json` and a table beside its record.

    Returns the path of `pointing.json`.

    Raises:
        DataError: no record of the run, a data set that is not here or has no masks, or a network that is named from
            its outline.
    """
    card = read_json(path.with_name(CARD))
    if from_outline(card):
        raise DataError(
            f"{path.parent.name}: named from its outline, which shows where it read, while Grad-CAM weighs all places "
            "alike; `outline` in its record says how often that lies in the tumour"
        )
    records = [record for record in evidence.records if record["id"] == path.parent.name]
    if not records:
        raise DataError(f"{path}: saved_metrics/ has no record of '{path.parent.name}', so its test set is not known")
    (record,) = records
    name = record["run"]["test_on"] or record["run"]["dataset"]
    mask_file(name)
    manifest, listed = read_manifest(name), evidence.predictions(record)
    rows = np.flatnonzero(manifest.path.isin(listed.path) & manifest.label.ne(HEALTHY))
    size, view = card["input"]["size"], card["input"]["view"]
    if view != "stored":
        raise DataError(f"{path}: trained on '{view}' images, and the masks lie on the images as stored")
    data = ImageDataset(name, rows, image_size=size, classes=card["classes"])
    model = load_weights(path)
    inputs, scores = reading(model, card)
    table = named(pointing_table(model, data, inputs, scores), name, card["classes"])
    committed = listed.set_index("path").predicted[table.path].to_numpy()
    found = {
        "id": record["id"],
        "task": record["task"],
        "run": record["run"],
        "data": fingerprint(name) | {"folds": record["data"].get("folds", "")},
        "weights": card["sha256"],
        "git": git_revision(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "tested": len(listed),
        "tumours": len(rows),
        "agreement": float((table.predicted == committed).mean()),
        "groups": summarise(table, resamples),
    }
    folder = run_folder(evidence.folder, record)
    write_predictions(folder / TABLE, table)
    write_record(folder / POINTING, found)
    return folder / POINTING


def reading(model: nn.Module, card: dict) -> tuple[Callable[[dict], Tensor], Callable[[object], Tensor]]:
    """How a classifier with a card is fed, batch → inputs, and how its outputs become scores of the classes."""
    channels = card["arguments"]["in_channels"]

    def inputs(batch: dict[str, Tensor]) -> Tensor:
        return scaled(batch["image"]).expand(-1, channels, -1, -1)

    def scores(outputs: object) -> Tensor:
        if not isinstance(outputs, dict):
            return outputs
        if "classes" in outputs:
            return outputs["classes"]
        return joint_probabilities(outputs, card["classes"].index(HEALTHY)).clamp_min(1e-12).log()

    return inputs, scores


def named(table: pd.DataFrame, name: str, classes: Sequence[str]) -> pd.DataFrame:
    """A pointing table with names for numbers: path, label, patient and predicted class first."""
    manifest = read_manifest(name)
    splits = read_splits(name, manifest)
    patient = manifest.patient if splits is None else splits.patient
    facts = {"path": manifest.path, "label": manifest.label, "patient": patient}
    first = pd.DataFrame({column: values.iloc[table.row].to_numpy() for column, values in facts.items()})
    first["predicted"] = np.asarray(classes)[table.predicted]
    rest = table.drop(columns=["row", "predicted"])
    return pd.concat([first, rest.round({c: 6 for c in rest if c != "blank"})], axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: measure where committed classifiers look, and write the records into saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.pointing", description=main.__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs with weights in saved_models/ (all classifiers)")
    parser.add_argument("--anew", action="store_true", help="also those that have been measured")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    evidence, failed = load_evidence(), 0
    try:
        paths = [find_weights(run) for run in args.runs] or every_classifier()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in paths:
        done = [r for r in evidence.pointing if r["id"] == path.parent.name]
        if done and not args.anew and done[0]["weights"] == read_json(path.with_name(CARD))["sha256"]:
            print(f"{path.parent.name}: measured before")
            continue
        try:
            found = json.loads(measure(path, evidence).read_text())
        except DataError as error:
            print(f"error: {path.parent.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        whole = found["groups"]["all"]
        print(
            f"{found['id']}: the maximum lies in the tumour in {100 * whole['pointing']['value']:.1f} % of "
            f"{whole['images']} images, by chance in {100 * whole['area']['value']:.1f} %",
            flush=True,
        )
    return int(failed > 0)


def every_classifier() -> list[Path]:
    """The weights of all classifiers in `saved_models/` but those that are named from their outline."""
    root = output_root() / "saved_models"
    paths = [path for task in CLASSIFIERS for path in sorted(root.glob(f"{task}/*/*/{WEIGHTS}"))]
    return [path for path in paths if not from_outline(read_json(path.with_name(CARD)))]


def from_outline(card: dict) -> bool:
    """Whether the network with a card is an `OutlineClassifier` that weighs the places by its outline."""
    return card["arguments"].get("named_from") == "outline"


if __name__ == "__main__":
    sys.exit(main())
