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
from utils.report.records import REMEDY, Evidence, load_evidence, write_predictions
from utils.report.weights import find_weights, load_weights
from utils.run import Run
from utils.training.data import load_data
from utils.training.tasks import Classification

TRAINING = "training.csv.gz"
TASKS = ("classification", "transfer")


def measure(evidence: Evidence, weights: Path) -> pd.DataFrame:
    """Ask a saved network about its training images; writes the table beside its record, and returns it. Raises
    `DataError` for another kind of network, or one without a record on the present folds."""
    name = weights.parent.name
    if name not in evidence.runs.index or evidence.record(name)["task"] not in TASKS:
        raise DataError(f"{weights}: saved_metrics/ has no record of '{name}' as {' or '.join(TASKS)}; run it again")
    run = Run(**evidence.record(name)["run"])
    data, model = load_data(run, get_recipe(run.recipe, run.model).val_fraction), load_weights(weights)
    probabilities = predict(model, Classification(len(data.classes), model.in_channels), data.train)
    classes = np.array(data.classes)
    found = {"label": classes[data.train.labels], "predicted": classes[probabilities.argmax(1)]}
    found |= {f"p_{c}": probabilities[:, k].astype(np.float32) for k, c in enumerate(classes)}
    table = pd.DataFrame(found).sort_values([*found], ignore_index=True)
    write_predictions(evidence.path(name) / TRAINING, table)
    return table


def read_training(evidence: Evidence, run: str) -> pd.DataFrame | None:
    """The table of a run, None where it was not made; raises `DataError` for a damaged file."""
    path = evidence.path(run) / TRAINING
    return read_table(path, REMEDY, ("label", "predicted"), keep_default_na=False) if path.is_file() else None


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: predict the training images of saved classifiers, and write the tables into saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.on_training", description=main.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs with weights in saved_models/")
    evidence = load_evidence()
    for weights in map(find_weights, parser.parse_args(argv).runs):
        table = measure(evidence, weights)
        print(f"{weights.parent.name}: {100 * (table.label == table.predicted).mean():.1f} % of {len(table)} are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
