"""A record with every field that one must have, for tests that look at a few of them."""

from dataclasses import asdict

from datasets.store.index import folds_digest
from utils.run import TASKS, Run


def without_task(run: Run) -> dict:
    """The run as a record has it, whose task stands beside it."""
    return {name: value for name, value in asdict(run).items() if name != "task"}


def whole(run: Run, **changes: object) -> dict:
    """The record of `run` with `changes`; metrics that are not given have no value."""
    none = {"value": None, "low": None, "high": None}
    record = {"id": run.id, "task": run.task, "run": without_task(run), "data": {"folds": folds_digest(run.dataset)}}
    record |= {"per_class": {}, "metrics": {}} | dict.fromkeys(("training", "recipe", "published"))
    record |= dict.fromkeys(("parameters", "trainable", "images", "groups"), 0) | changes
    if record["training"] is not None:
        record["training"] = {"epochs": 1, "seconds": 1.0} | record["training"]
    record["metrics"] = {name: none for name in TASKS[run.task]} | record["metrics"]
    return record
