"""`python -m utils.report.reevaluate [ID …]`: computes the metrics of records again from their predictions.

For a change in how metrics or intervals are computed: nothing is trained, and no network is asked. What needs more than
the predictions of the test set stays as it is, such as thresholds, gates and test-time augmentation.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from datasets.catalog import DataError
from utils.commands import errors_in_one_line
from utils.evaluation.classification import by_patient, evaluate
from utils.evaluation.findings import evaluate_findings
from utils.evaluation.intervals import of_share
from utils.evaluation.outlining import evaluate_outlines
from utils.evaluation.reconstruction import anomaly
from utils.evaluation.thresholds import screening, tumour_or_none
from utils.report.pooling import pooled
from utils.report.records import Evidence, load_evidence, run_folder, write_record
from utils.report.validate import INTERVAL, METRICS, read_record
from utils.run import Run
from utils.training.environment import git_revision

TASKS = ("classification", "transfer", "multitask", "localisation", "findings")
DIGIT = 1e-6  # the last one of the numbers in a record


def reevaluated(record: dict, evidence: Evidence) -> dict:
    """A record with its metrics computed again, and `evaluated`, the commit whose code did so.

    Args:
        record: of one of `TASKS`, as it is in its file; evidence: with its predictions, or those of its folds.

    Raises:
        DataError: the predictions are of other images, or are not there.
    """
    resamples = record["resamples"]
    if "pooled" in record:
        folds = {one["id"]: one for one in evidence.records}
        if missing := [one for one in record["pooled"] if one not in folds]:
            raise DataError(f"{record['id']}: its fold {missing[0]} has no record; run `make tables`")
        run = Run(**record["run"], task=record["task"])
        found = pooled(run, [folds[one] for one in record["pooled"]], evidence, resamples)
    else:
        found = _of_one_run(record, evidence, resamples)
    if _tested(found) != _tested(record):
        raise DataError(f"{record['id']}: its predictions are not those that its record was made of; run it again")
    return record | _steady(record, found) | {"evaluated": git_revision()}


def _tested(record: dict) -> tuple:
    """What a record counts: no change of a metric changes it."""
    of_classes = {name: entry["images"] for name, entry in record["per_class"].items()}
    return record["images"], record["groups"], of_classes, record.get("confusion")


def _of_one_run(record: dict, evidence: Evidence, resamples: int) -> dict:
    table, classes = evidence.predictions(record), list(record["per_class"])
    if record["task"] == "findings":
        return evaluate_findings(table, classes, resamples)
    found = evaluate(table, classes, resamples)
    if "by_patient" in record:
        patients = by_patient(table, classes)
        found["by_patient"] = evaluate(patients, classes, resamples)["metrics"] | {"patients": len(patients)}
    if record.get("unseen"):  # which images these are is not in the predictions, but how many groups is in the record
        rest = record["unseen"]
        found["unseen"] = rest | {"accuracy": of_share(rest["accuracy"], rest["groups"])}
    if "screening" in record:
        found["screening"] = screening(table, resamples)
    if "tumour_or_none" in record:
        found["tumour_or_none"] = _at_threshold(record["tumour_or_none"], table, resamples)
    if "anomaly" in record:
        found["anomaly"] = anomaly(table, classes, resamples)
    if "outline" in record:
        found["outline"] = evaluate_outlines(table, resamples)
    return found


def _at_threshold(known: dict, table: pd.DataFrame, resamples: int) -> dict:
    """`tumour_or_none` at the threshold of a record. It is rounded there, and scores may lie as close to it: of the
    thresholds that round to it, one with the same rates. Where there is none, all stays as it is."""
    threshold = np.nan if known["threshold"] is None else known["threshold"]
    tries = (tumour_or_none(table, threshold + digits * DIGIT, resamples) for digits in (0, 0.5, -0.5))
    rates = ("sensitivity", "specificity", "auc")
    same = (found for found in tries if all(_close(found[n]["value"], known[n]["value"]) for n in rates))
    return next(same, known) | {"threshold": known["threshold"]}


def _steady(before: dict, after: dict) -> dict:
    """`after`, but of an interval each number of `before` that differs in the last digit alone: processors round
    differently."""
    if after.keys() == INTERVAL == before.keys():
        return {name: before[name] if _close(before[name], number) else number for name, number in after.items()}
    both = {
        name: inner for name, inner in after.items() if isinstance(inner, dict) and isinstance(before.get(name), dict)
    }
    return after | {name: _steady(before[name], inner) for name, inner in both.items()}


def _close(one: float | None, other: float | None) -> bool:
    return one is other or (None not in (one, other) and abs(one - other) < 1.5 * DIGIT)


def differences(before: dict, after: dict) -> Iterator[tuple[str, str]]:
    """What differs between two records: `value` or `limits`, and the metric behind the keys above it."""
    if after.keys() == INTERVAL:
        kinds = {"value": ("value",), "limits": ("low", "high")}
        yield from ((kind, "") for kind, names in kinds.items() if any(before.get(n) != after[n] for n in names))
        return
    for name, inner in after.items():
        if isinstance(inner, dict):
            yield from ((kind, f"{name}.{key}".strip(".")) for kind, key in differences(before.get(name) or {}, inner))


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: compute the metrics of records again from their predictions, and write them to saved_metrics/."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.reevaluate", description=main.__doc__)
    parser.add_argument("runs", nargs="*", metavar="ID", help="ids of runs (all but those of segmentation)")
    args = parser.parse_args(argv)
    evidence = load_evidence()
    records = {record["id"]: record for record in evidence.records if record["task"] in TASKS}
    if missing := [name for name in args.runs if name not in records]:
        raise DataError(f"{evidence.folder}: has no record of '{missing[0]}' (of any task but segmentation)")
    chosen = [records[name] for name in args.runs or records]
    chosen.sort(key=lambda record: "pooled" in record)  # the folds first, of whose records the pooled ones are made
    changed, kinds = 0, Counter()
    for listed in tqdm(chosen, unit="record"):
        path = run_folder(evidence.folder, listed) / METRICS
        before = read_record(path)
        after = reevaluated(before, evidence)
        write_record(path, after)
        listed |= after
        found = set(differences(before, after))
        changed += bool(found)
        kinds.update({kind for kind, _ in found})
        if moved := sorted(name for kind, name in found if kind == "value"):
            tqdm.write(f"{before['id']}: other values of {', '.join(moved)}")
    print(
        f"{len(chosen)} records evaluated again, {changed} of them changed: {kinds['limits']} in limits of intervals, "
        f"{kinds['value']} in values"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
