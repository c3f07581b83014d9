"""`make tables`, after every new run: pools finished folds, writes `runs.csv`, the README's table and its images, and
the pages of the saved models.

Pooled, every image is tested once, by a model that was not trained on its patient; nothing is trained here.
"""

import argparse
import io
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datasets import catalog
from datasets.catalog import REPO, DataError
from datasets.commands import errors_in_one_line
from datasets.labels import classes_of
from utils.files import output_root, write_atomically
from utils.report import figures
from utils.report.records import METRICS, Evidence, load_evidence, read_record, write_record
from utils.report.tables import BLOCKS, all_runs
from utils.report.tables.classification import leakage
from utils.report.tables.common import markdown
from utils.run import Run
from utils.saved_models import README, cards, model_card
from utils.training.tasks import TASKS

FILLED = ("README.md", "docs/leaderboard.md", "saved_models/README.md")
BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def pool_folds(folder: Path, resamples: int = 1000) -> list[Path]:
    """Write the pooled record of every run whose folds all lie in `folder`; returns the paths written.

    It has the metrics of the folds' joined predictions, intervals over all groups, the main metric of each fold
    (`folds`), the ids it was made of (`pooled`), and the epochs of the longest training. One that is there already and
    made of the same is kept; one whose folds are no longer all there is taken away.
    """
    evidence, folds, written = load_evidence(folder), defaultdict(dict), []
    for record in map(evidence.record, evidence.runs.id):
        run = Run(**record["run"], task=record["task"])
        if run.split == "patient" and run.fold is not None:
            folds[replace(run, fold=None)][run.fold] = record
    for run, of in folds.items():
        records = [of[fold] for fold in sorted(of)]
        path = folder / run.task / run.dataset / run.id / METRICS
        made_of = {record["id"]: record["finished"] for record in records}
        if sorted(of) != list(range(catalog.get(run.dataset).folds)):
            path.unlink(missing_ok=True)  # a fold was run anew since, so it no longer says what its folds say
        elif not path.is_file() or read_record(path)["pooled"] != made_of:
            write_record(path, _pooled(run, records, evidence, resamples) | {"pooled": made_of})
            written.append(path)
    return written


def _pooled(run: Run, records: list[dict], evidence: Evidence, resamples: int) -> dict:
    """The record of all folds together, from the predictions beside their records."""
    task, facts, first = TASKS[run.task], catalog.get(run.dataset), records[0]
    tables = [evidence.predictions(record["id"]).assign(fold=fold) for fold, record in enumerate(records)]
    table = pd.concat(tables, ignore_index=True)
    names = facts.mask_channels if run.task == "segmentation" else classes_of(run.dataset, run.target)
    training = None
    if trained := [record["training"] for record in records if record["training"]]:
        epochs = [one["epochs"] for one in trained]
        training = {"epochs": max(epochs), "seconds": sum(one["seconds"] for one in trained)}
        if len(set(epochs)) > 1:
            training["epochs_by_fold"] = epochs
    return {
        "id": run.id,
        "task": run.task,
        "run": first["run"] | {"fold": None},
        **{name: first[name] for name in ("recipe", "parameters", "trainable", "data")},
        "training": training,
        "published": None,
        "pooled": None,  # its place
        "folds": [record["metrics"][task.reported[0]]["value"] for record in records],
        "unseen": None,
        **task.evaluate(table.drop(columns="fold"), names, resamples, fold=table.fold),
    }


def filled(text: str, evidence: Evidence) -> str:
    """`text` with every block `<!-- table NAME -->` made again, NAME from `tables.BLOCKS`."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{markdown(BLOCKS[found[2]](evidence))}\n\n{found[3]}", text)


def main(argv: Sequence[str] | None = None, root: Path = REPO) -> None:
    """Pool finished patient folds; then make tables and figure from saved_metrics/, and write them once all are made.

    Raises:
        DataError: a file of the evidence is damaged; then nothing is written.
    """
    what = main.__doc__.partition("\n")[0]
    argparse.ArgumentParser(prog="python -m utils.report.readme", description=what).parse_args(argv)
    other = output_root() / "saved_metrics"
    if other != root / "saved_metrics" and next(other.glob("*/*/*/metrics.json"), None):
        print(f"note: the records in {other} are not read; copy that folder into {root} first", file=sys.stderr)
    if damaged := load_evidence(root / "saved_metrics").damaged:
        raise DataError(f"tables are made of whole evidence alone: {damaged[0]} ({len(damaged)} in all)")
    for path in pool_folds(root / "saved_metrics"):
        print(f"pooled: {path.parent.name}")
    evidence = load_evidence(root / "saved_metrics")
    made = {"saved_metrics/runs.csv": all_runs(evidence).to_csv(index=False)}
    made |= {name: filled((root / name).read_text(encoding="utf-8"), evidence) for name in FILLED}
    committed = [(folder, card) for folder, card in cards() if root in folder.parents]
    made |= {folder / README: model_card(folder.name, card) for folder, card in committed}
    rows, drawn = leakage(evidence), io.BytesIO()
    figures.leakage(rows[rows.dataset == "brain-tumor-mri"]).savefig(drawn, dpi=110)
    for name, content in (made | {"docs/results.png": drawn.getvalue()}).items():
        write_atomically(root / name, content)


if __name__ == "__main__":
    sys.exit(errors_in_one_line()(main)())
