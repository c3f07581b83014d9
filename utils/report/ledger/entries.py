"""The ledger's list: the plan, then every other run with a record, each with its state, its cost and its command."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from utils.report.ledger.costs import Cost, cost
from utils.report.ledger.rows import Row, row_of
from utils.report.ledger.states import ABSENT, DONE, lacks, state_of, unknown, weights_of
from utils.report.records import load_evidence

OTHERS = "12. Other runs in the tables"


@dataclass(frozen=True)
class Entry:
    """A row with its number, its state by the records, and what is lacking of the project and of this machine."""

    index: int
    row: Row
    records: Sequence[dict]

    @cached_property
    def unknown(self) -> str:
        return unknown(self.row)

    @cached_property
    def state(self) -> str:
        return ABSENT if self.unknown else state_of(self.row)

    @cached_property
    def lacks(self) -> str:
        return "" if self.state == DONE else self.unknown or lacks(self.row)

    @cached_property
    def obstacle(self) -> str:
        return obstacle(self.row, self.records)

    def cost(self, gpu: bool) -> Cost | None:
        return None if self.unknown else cost(self.row, self.records, gpu)

    def command(self) -> str:
        weights = weights_of(self.row["model"]) if self.row["pretrained"] and not self.unknown else ""
        return shlex.join(["python", *self.row.command(weights or "imagenet")])

    def facts(self) -> dict[str, object]:
        found = {"index": self.index, "group": self.row.group, "run": self.row.name, "state": self.state}
        found |= {"lacks": self.lacks, "command": self.command()}
        for unit, gpu in (("core_hours", False), ("gpu_minutes", True)):
            value = self.cost(gpu)
            found |= {unit: value and value.value, f"{unit}_source": value and value.source}
        return found


def obstacle(row: Row, records: Sequence[dict]) -> str:
    """What no record had yet, by the committed records alone: the files of the data set, or the weights."""
    runs = [record["run"] for record in records]
    for name in filter(None, (row["dataset"], row["test_on"])):
        if not any(name in (run["dataset"], run["test_on"]) for run in runs):
            return f"the files of `{name}` were not at hand"
    if row["pretrained"] and not any(run["model"] == row["model"] and run["pretrained"] for run in runs):
        return f"ImageNet weights of {row['model']} were not at hand"
    return "computing time"


def evidence_of(*folders: Path) -> list[dict]:
    """The records of several `saved_metrics/`, those of later ones in place of earlier ones."""
    found = [load_evidence(folder) for folder in dict.fromkeys(folders)]
    return list({record["id"]: record for each in found for record in each.records}.values())


def entries(plan: Sequence[Row], records: Sequence[dict]) -> list[Entry]:
    """The plan, then what else has a record, which a table may show: its folds may have been remade since."""
    names = {row.name for row in plan} | {run.id for row in plan if not unknown(row) for run in row.runs()}
    others = [row_of(record, OTHERS) for record in sorted(records, key=lambda r: r["id"]) if record["id"] not in names]
    return [Entry(i, row, records) for i, row in enumerate([*plan, *filter(None, others)])]
