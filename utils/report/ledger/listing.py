"""How the ledger is shown: as text for a terminal, and as Markdown for the repository."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from utils.report.ledger.costs import Cost
from utils.report.ledger.entries import Entry
from utils.report.ledger.states import DONE, state_of
from utils.report.tables.common import markdown as table

NOT_MEASURED = "not measured"
LEGEND = """States: *done*; *begun* (interrupted, or of a probe some splits); *fewer epochs* than the recipe states;
*old folds* (made before the present patient folds, and marked † in tables); *missing*. `every-split` is one command
that makes the probe on all splits of a data set. Costs are scaled from the runs under *measured from* to the images,
pixels and epochs of the row."""


def amount(value: Cost | None) -> str:
    return f"{value.value:.1f}" if value else NOT_MEASURED


def text(found: Sequence[Entry]) -> str:
    """For a terminal: a line a row, below it what it lacks or its command, and where the cost was measured."""
    lines, group = [], ""
    for entry in found:
        if entry.row.group != group:
            group = entry.row.group
            lines.append(f"\n{group}\n  row  state         core-hours    GPU-minutes   run")
        costs = [entry.cost(gpu) for gpu in (False, True)]
        state = "lacks" if entry.lacks else entry.state
        lines.append(
            f"{entry.index:5}  {state:12}  " + "  ".join(f"{amount(c):12}" for c in costs) + f"  {entry.row.name}"
        )
        if entry.lacks:
            lines.append(f"{'':7}lacks: {entry.lacks}")
        if entry.state != DONE:
            lines.append(f"{'':7}{entry.command()}")
            sources = dict.fromkeys(c.source for c in costs if c)
            lines += [f"{'':7}cost by {source}" for source in sources]
    return "\n".join([*lines, "", summary(found)])


def summary(found: Sequence[Entry]) -> str:
    counts = Counter("lacking something" if entry.lacks else entry.state for entry in found)
    hours = sum(c.value for e in found if e.state != DONE and not e.lacks and (c := e.cost(False)))
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    return f"{len(found)} rows: {states}. What can be run here takes {hours:.1f} core-hours, as far as measured."


def markdown(found: Sequence[Entry]) -> str:
    """For the repository: by the committed records alone, so that every machine writes the same."""
    head = "# Ledger of runs\n\nMade by `make tables` from `saved_metrics/` and the plan in `utils/report/ledger/`; "
    head += "`python -m utils.report.ledger` shows the commands and what this machine lacks. "
    head += "GPU-minutes are those of a run, also where several shared the GPU: `hardware.gpu` in its record.\n\n"
    parts = [head + LEGEND]
    for group, members in groupby(found, lambda entry: entry.row.group):
        parts += [f"## {group}", table(pd.DataFrame([_cells(entry) for entry in members]))]
    return "\n\n".join(parts) + "\n"


def _cells(entry: Entry) -> dict[str, object]:
    value, on_gpu = entry.cost(False), entry.cost(True)
    state = entry.unknown or state_of(entry.row, here=False)
    sources = dict.fromkeys(f"`{cost.source}`" for cost in (value, on_gpu) if cost)
    return {
        "row": entry.index,
        "run": f"`{entry.row.name}`",
        "state": state,
        "why not done": "" if state == DONE else entry.obstacle,
        "core-hours": amount(value),
        "GPU-minutes": amount(on_gpu),
        "measured from": ", ".join(sources),
    }
