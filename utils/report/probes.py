"""`python -m utils.report.probes DATASET --backbone NAME --weights FILE`: linear probes of a data set, every split.

The features of a data set are computed once; the splits differ only in the logistic regression behind them.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import HEALTHY, DataError
from datasets.commands import errors_in_one_line
from datasets.labels import CLASS_TARGETS
from datasets.store import index
from datasets.store.index import read_manifest
from models.weights import WeightsError
from utils.evaluation.baselines import fit_probe, pretrained_features, probe_probabilities
from utils.evaluation.classification import evaluate, run_table, unseen, validation_table
from utils.evaluation.thresholds import threshold_for, tumour_or_none, tumour_scores
from utils.report.records import METRICS, on_old_folds, read_record, save_run
from utils.run import Run
from utils.training.data import load_data

RECIPE = "probe"


def splits_of(name: str) -> list[dict[str, object]]:
    """The protocols of a data set that a probe is made for: as published, cleaned, and every patient fold; at random
    where it was published without a test set and without patients; of a joined set, every source. Before it is here,
    the catalogue says it."""
    if joined := catalog.get(name).joins:
        return [{"split": "source", "fold": fold} for fold in range(len(joined))]
    tested, named = "test" in catalog.get(name).counts, True
    with suppress(DataError):
        manifest = read_manifest(name)
        tested, named = manifest.published_split.eq("test").any(), manifest.patient.ne("").any()
    whole = [{"split": "published"}] if tested else [] if named else [{"split": "random"}]
    if tested and (index.SPLITS / f"s0/{name}.csv").is_file():
        whole.append({"split": "cleaned"})
    return whole + [{"split": "patient", "fold": fold} for fold in range(catalog.get(name).folds)]


def probe_data_set(name: str, args: argparse.Namespace) -> list[Run]:
    """Probe one backbone under every split of data set `name`, with the arguments of the command; returns the runs that
    were made. Those that have a record on the committed folds are kept."""
    splits = splits_of(name) + [{"split": "external", "test_on": other} for other in args.test_on]
    same = {"dataset": name, "model": args.backbone, "recipe": RECIPE, "image_size": args.image_size}
    runs = [Run(**same, pretrained=True, **split, target=target) for target in args.target for split in splits]
    for needed in (name, *args.test_on):
        index.require(needed)
    records = {run: run.metrics_folder / METRICS for run in runs}
    missing = [run for run, path in records.items() if not path.is_file() or on_old_folds(read_record(path))]
    features, backbone = {}, (args.backbone, args.weights, args.image_size, args.precision)
    for run in missing:
        for each in {run.dataset, run.test_on or run.dataset} - features.keys():
            features[each] = pretrained_features(each, *backbone)
            print(f"{each}: features of {len(features[each])} images", flush=True)
        _probe_run(run, features)
    return missing


def _probe_run(run: Run, features: dict[str, np.ndarray]) -> None:
    data = load_data(run)
    split, known, tested = data.split, features[run.dataset], features[data.split.test_set]
    labels = pd.Categorical(pd.concat([data.labels["train"], data.labels["val"]]), data.classes).codes
    labels, val_labels = labels[: len(split.train)], labels[len(split.train) :]
    probe, alone, accuracy = fit_probe(known[split.train], labels, known[split.val], val_labels)
    table = run_table(data, probe_probabilities(probe, tested[split.test], len(data.classes)))
    validated = validation_table(data, probe_probabilities(alone, known[split.val], len(data.classes)))
    result = evaluate(table, data.test_classes) | {"unseen": unseen(table, split.seen)}
    if HEALTHY in data.classes:
        result["tumour_or_none"] = tumour_or_none(table, threshold_for(*tumour_scores(validated)))
    of_strength = {str(c): value for c, value in accuracy.items()}
    result["probe"] = {"validation": of_strength, "val_accuracy": max(accuracy.values())}
    save_run(run, result, table, sizes=data.sizes, validation=validated)
    print(f"{run.id}: accuracy {100 * result['metrics']['accuracy']['value']:.1f} %", flush=True)


@errors_in_one_line(WeightsError, ValueError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: probe a pretrained backbone on a data set, under every split that the set has."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.probes", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="brain-tumor-mri, sartaj, cheng, …")
    parser.add_argument("--backbone", default="ResNet50-v2", help="a name in models/backbones.py (ResNet50-v2)")
    parser.add_argument("--weights", default="imagenet", help="a weight file, or 'imagenet' for the hub (imagenet)")
    parser.add_argument("--image-size", type=int, default=224, metavar="N", help="side of the input in pixels (224)")
    parser.add_argument("--test-on", nargs="*", default=[], metavar="OTHER", help="also test on these data sets")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="bf16 on hardware that has it (no)")
    parser.add_argument(
        "--target", nargs="+", choices=CLASS_TARGETS, default=["label"], help="what is asked of an image (label)"
    )
    args = parser.parse_args(argv)
    for name in args.datasets:
        if not probe_data_set(name, args):
            print(f"{name}: every probe has its record in saved_metrics/; nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
