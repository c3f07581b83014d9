"""`python -m utils.report.on_training RUN …`: how sure saved classifiers are of the images that they learned from.

Writes `training.csv.gz` beside a record: label, predicted class and probabilities of each training image as it is,
without augmentation. No row says which image it is of, and the rows are in the order of their values.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.catalog import DataError
from datasets.reading import read_table
from utils.commands import errors_in_one_line
from utils.evaluation.predict import predict
from utils.recipes import get_recipe
from utils.report.records import Evidence, load_evidence, run_folder, write_predictions
from utils.report.validate import REMEDY
from utils.report.weights import find_weights, load_weights
from utils.run import Run
from utils.training.data import load_data
from utils.training.tasks import Classification

TRAINING = "training.csv.gz"
TASKS = ("classification", "transfer")


def measure(record: dict, weights: Path, folder: Path) -> Path:
    """Ask the network of a record about its training images; writes the table into evidence `folder`, returns its path.

    Raises:
        DataError: another kind of network, or folds that are no longer those that it was trained on.
    """
    if record["task"] not in TASKS:
        raise DataError(f"{record['id']}: of the task '{record['task']}'; this is for {' and '.join(TASKS)}")
    if record["old_folds"]:
        raise DataError(f"{record['id']}: trained on earlier folds, so its training images are no longer known")
    run = Run(**record["run"])
    data = load_data(run, get_recipe(run.recipe, run.model).val_fraction)
    model = load_weights(weights)
    probabilities = predict(model, Classification(len(data.classes), model.in_channels), data.train)
    classes = np.array(data.classes)
    found = {"label": classes[data.train.labels], "predicted": classes[probabilities.argmax(1)]}
    found |= {f"p_{c}": probabilities[:, k].astype(np.float32) for k, c in enumerate(classes)}
    table = pd.DataFrame(found)
    path = run_folder(folder, record) / TRAINING
    write_predictions(path, table.sort_values(list(table), ignore_index=True))
    return path


def read_training(evidence: Evidence, record: dict) -> pd.DataFrame | None:
    """The table of a record, None where it was not made; raises `DataError` for a damaged file."""
    path = run_folder(evidence.folder, record) / TRAINING
    return read_table(path, REMEDY, ("label", "predicted"), keep_default_na=False) if path.is_file() else None


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: predict the training images of saved classifiers, and write the tables into saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.on_training", description=main.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs with weights in saved_models/")
    args = parser.parse_args(argv)
    evidence = load_evidence()
    for name in args.runs:
        weights = find_weights(name)
        records = [record for record in evidence.records if record["id"] == weights.parent.name]
        if not records:
            raise DataError(f"{weights}: saved_metrics/ has no record of '{weights.parent.name}'")
        table = read_table(measure(records[0], weights, evidence.folder), keep_default_na=False)
        print(f"{weights.parent.name}: {100 * (table.label == table.predicted).mean():.1f} % of {len(table)} are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
