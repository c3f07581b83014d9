"""`python -m utils.report.reevaluate [ID …]`: computes the metrics of records again from their predictions.

For a change in how metrics, intervals or the threshold of a tumour are computed: nothing is trained, and no network is
asked. A threshold is chosen again from the predictions of the validation set; a record without these has none. What
needs more than predictions stays as it is, such as gates and test-time augmentation. Where a network looks
(`pointing.json`) is summarised again from the table beside it.
"""

import argparse
import sys
from collections.abc import Sequence

import pandas as pd
from tqdm import tqdm

from datasets.catalog import DataError, get
from datasets.commands import errors_in_one_line
from datasets.store.index import SPLITS
from utils.evaluation.classification import by_patient, evaluate, unseen
from utils.evaluation.intervals import of_share
from utils.evaluation.saliency import summarise
from utils.evaluation.thresholds import UNKNOWN, screening, threshold_for, tumour_or_none, tumour_scores
from utils.report.records import (
    METRICS,
    POINTING,
    POINTING_TABLE,
    Evidence,
    intervals,
    load_evidence,
    read_record,
    read_whole,
    write_record,
)
from utils.run import output_root
from utils.training.environment import git_revision
from utils.training.tasks import TASKS

DIGIT = 1e-6  # the last one of the numbers in a record: processors round differently
COUNTED = ("images", "groups", "confusion")  # no change of a metric changes these


def reevaluated(record: dict, evidence: Evidence) -> dict:
    """A record with its metrics computed again, and `evaluated`, the commit whose code did so.

    Raises:
        DataError: the predictions are of other images, or those of a fold are not there.
    """
    if missing := [one for one in record.get("pooled", ()) if one not in evidence.runs.index]:
        raise DataError(f"{record['id']}: its fold {missing[0]} has no record; run `make tables`")
    table, classes, resamples = evidence.predictions(record["id"]), list(record["per_class"]), record["resamples"]
    found = _all_metrics(record, evidence, table, classes)
    if "tumour_or_none" in record:
        validated = evidence.validation(record["id"])
        threshold = UNKNOWN if validated is None else threshold_for(*tumour_scores(validated))
        found["tumour_or_none"] = tumour_or_none(table, threshold, resamples)
    if "screening" in record:
        found["screening"] = screening(table, resamples)
        if "validation" not in found["screening"] and "threshold" in record:  # pooled folds have none
            found |= UNKNOWN.as_record()
    before = dict(intervals(record))
    for name, entry in intervals(found):
        known = before.get(name, {})
        entry.update({key: known[key] for key, value in entry.items() if key in known and _close(known[key], value)})
    return record | found | {"evaluated": git_revision()}


def _all_metrics(record: dict, evidence: Evidence, table: pd.DataFrame, classes: list[str]) -> dict:
    task, resamples = TASKS[record["task"]], record["resamples"]
    names = get(record["run"]["dataset"]).mask_channels if record["task"] == "segmentation" else classes
    found = task.evaluate(table, names, resamples, fold=table.get("fold"))
    found = {name: value for name, value in found.items() if name in record}
    if any(found.get(name) != record.get(name) for name in COUNTED):
        raise DataError(f"{record['id']}: its predictions are not those that its record was made of; run it again")
    if "pooled" in record:
        found["folds"] = [evidence.record(one)["metrics"][task.reported[0]]["value"] for one in record["pooled"]]
    if "by_patient" in record:
        patients = by_patient(table, classes)
        found["by_patient"] = evaluate(patients, classes, resamples)["metrics"] | {"patients": len(patients)}
    if record.get("unseen"):
        found["unseen"] = _unseen(record, table)
    return found


def _unseen(record: dict, table: pd.DataFrame) -> dict:
    """`unseen` of a record, where the publisher's split and the committed groups say which images these are: which they
    were is not in the predictions. Else as it was, with exact limits for the number of groups that is in the record."""
    known, splits = record["unseen"], SPLITS / f"{record['run']['dataset']}.csv"
    if splits.is_file():
        of = pd.read_csv(splits, dtype={"group": str})
        again = unseen(table, table.group.isin(of.group[of.published_split == "train"]).to_numpy())
        if again and again | {"accuracy": known["accuracy"]} == known:
            return again
    return known | {"accuracy": of_share(known["accuracy"], known["groups"])}


def _close(one: float | None, other: float | None) -> bool:
    return one is other or (None not in (one, other) and abs(one - other) < 1.5 * DIGIT)


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: compute the metrics of records again from their predictions, and write them to saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.reevaluate", description=main.__doc__)
    parser.add_argument("runs", nargs="*", metavar="ID", help="ids of runs (by default all)")
    args = parser.parse_args(argv)
    evidence = load_evidence(output_root() / "saved_metrics")  # never what is committed elsewhere
    known = evidence.runs
    if missing := [name for name in args.runs if name not in known.index]:
        raise DataError(f"{evidence.folders[0]}: has no record of '{missing[0]}'")
    chosen = known.loc[args.runs or known.index].sort_values("pooled", na_position="first", key=lambda p: p.notna())
    limits = values = 0
    for run in tqdm(chosen.index, unit="record"):  # the folds first, of whose records the pooled ones are made
        path = evidence.path(run) / METRICS
        record = read_record(path)
        after = reevaluated(record, evidence)
        write_record(path, after)
        if (pointed := path.with_name(POINTING)).is_file():
            groups = summarise(pd.read_csv(path.with_name(POINTING_TABLE), dtype={"patient": str}))
            write_record(pointed, read_whole(pointed) | {"groups": groups})
        evidence.record(run).update(after)
        before = dict(intervals(record))
        changed = {name: entry for name, entry in intervals(after) if before.get(name) != entry}
        moved = sorted(name for name, entry in changed.items() if before.get(name, entry)["value"] != entry["value"])
        limits, values = limits + bool(changed), values + bool(moved)
        if moved:
            tqdm.write(f"{run}: other values of {', '.join(moved)}")
    print(f"{len(chosen)} records evaluated again, {limits} of them changed, {values} in values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
