"""`python -m utils.report.pointing [RUN …]`: whether committed classifiers look at the tumour, as `pointing.json`.

Each network is asked about the test images of its own record (`predictions.csv.gz`), as far as their tumour is
outlined: in `cheng` all, in sets that are linked to it those that show its slices (`datasets/curation/masks.py`).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from datasets.catalog import HEALTHY, DataError
from datasets.commands import errors_in_one_line
from datasets.store.images import ImageDataset, mask_file
from datasets.store.index import fingerprint, read_manifest
from utils.evaluation.outlining import patients
from utils.evaluation.saliency import pointing_table, summarise
from utils.report.records import POINTING, POINTING_TABLE, Evidence, load_evidence, write_predictions, write_record
from utils.report.weights import load_weights
from utils.run import output_root
from utils.saved_models import CARD, find_weights, read_card, saved_weights
from utils.training.environment import git_revision
from utils.training.tasks import TASKS

CLASSIFIERS = ("classification", "transfer", "multitask", "localisation")


def measure(path: Path, evidence: Evidence) -> dict:
    """Measure the network whose weights are at `path`; writes `pointing.json` and a table beside its record, and
    returns its content. Raises `DataError` without a record, data set or masks, or if it is named from its outline."""
    card, run = read_card(path.with_name(CARD)), path.parent.name
    if card["arguments"].get("named_from") == "outline":
        raise DataError(
            f"{run}: named from its outline; `outline` in its record says how often that lies in the tumour"
        )
    if run not in evidence.runs.index:
        raise DataError(f"{path}: saved_metrics/ has no record of '{run}', so its test set is not known")
    if card["input"]["view"] != "stored":
        raise DataError(f"{path}: trained on '{card['input']['view']}' images, and the masks lie on the stored ones")
    record, listed = evidence.record(run), evidence.predictions(run)
    name = record["run"]["test_on"] or record["run"]["dataset"]
    mask_file(name)
    manifest, task = read_manifest(name), TASKS[card["task"]].from_card(card)
    rows = np.flatnonzero(manifest.path.isin(listed.path) & manifest.label.ne(HEALTHY))
    data = ImageDataset(name, rows, image_size=card["input"]["size"], classes=card["classes"])
    table = _named(pointing_table(load_weights(path), data, task.inputs, task.scores), name, card["classes"])
    found = {
        "id": run,
        "task": record["task"],
        "run": record["run"],
        "data": fingerprint(name) | {"folds": record["data"]["folds"]},
        "weights": card["sha256"],
        "git": git_revision(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "tested": len(listed),
        "tumours": len(rows),
        "agreement": float((table.predicted == listed.set_index("path").predicted[table.path].to_numpy()).mean()),
        "groups": summarise(table),
    }
    folder = output_root() / "saved_metrics" / record["task"] / record["run"]["dataset"] / run
    write_predictions(folder / POINTING_TABLE, table)
    write_record(folder / POINTING, found)
    return found


def _named(table: pd.DataFrame, name: str, classes: Sequence[str]) -> pd.DataFrame:
    """A pointing table with names for numbers: path, label, patient and predicted class first."""
    first = read_manifest(name)[["path", "label"]].iloc[table.row].reset_index(drop=True)
    first = first.assign(patient=patients(name, table.row, ""), predicted=np.asarray(classes)[table.predicted])
    rest = table.drop(columns=["row", "predicted"])
    return pd.concat([first, rest.round({c: 6 for c in rest if c != "blank"})], axis=1)


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: measure where committed classifiers look, and write the records into saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.pointing", description=main.__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="weights in saved_models/ (all that are not measured)")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    evidence, failed = load_evidence(), False
    measured = {found["id"]: found["weights"] for found in evidence.pointing}
    for path in [find_weights(run) for run in args.runs] or saved_weights().values():
        run, card = path.parent.name, read_card(path.with_name(CARD))
        if not args.runs:
            if card["task"] not in CLASSIFIERS or card["arguments"].get("named_from") == "outline":
                continue
            if measured.get(run) == card["sha256"]:
                print(f"{run}: measured before")
                continue
        try:
            whole = measure(path, evidence)["groups"]["all"]
        except DataError as error:
            print(f"error: {run}: {error}", file=sys.stderr)
            failed = True
            continue
        print(
            f"{run}: the maximum lies in the tumour in {100 * whole['pointing']['value']:.1f} % of "
            f"{whole['images']} images, by chance in {100 * whole['area']['value']:.1f} %",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
