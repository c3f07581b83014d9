"""Rows and records for the tests of the ledger of runs."""

import json

from whole_records import whole

from datasets.store.index import folds_digest
from utils.report.ledger.rows import Row


def quick_row(**changes: object) -> Row:
    run = {"dataset": "phantom", "split": "published", "model": "CustomCNN", "recipe": "s2"}
    return Row(group="test", run=run | {"image_size": 64, "quick": True} | changes, epochs=2)


def published_row(**changes: object) -> Row:
    run = {"dataset": "brain-tumor-mri", "split": "published", "model": "AlexNet", "recipe": "s2"}
    return Row(group="test", run=run | changes)


def record(row: Row, epochs: int = 50, **changes: object) -> dict:
    """What the ledger reads of a record as `save_run` writes it: an epoch of 1,000 images took 100 s on 2 threads."""
    run = row.runs()[0]
    facts = {
        "recipe": {"epochs": epochs},
        "parts": {"train": 1000, "val": 100, "test": 500},
        "data": {"folds": folds_digest(run.dataset)},
        "hardware": {"threads": 2, "processes": 1, "gpu": ""},
        "training": {"epochs": epochs, "seconds": 100.0 * epochs},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return whole(run, **facts | changes)


def write(row: Row, **changes: object) -> dict:
    made = record(row, **changes)
    path = row.runs()[0].metrics_folder / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made))
    return made
