"""What all tables share: how a number and its interval are written, and how a run is found."""

from collections.abc import Callable, Sequence

import pandas as pd

from datasets.splitting import PROTOCOLS
from utils.report.records import FINE_TUNED, PROBE
from utils.run import FULL_SIZE

NONE = "–"
BEST_PROBE = f"{PROBE} ResNet50-v2"  # of the pretrained networks at hand the largest
OLD_FOLDS = "†"  # of a run that was split by groups and folds which have been made anew since
CLEANED = "cleaned"  # the published folders after S0's rule
WEIGHTS = {True: "pretrained", False: "from scratch"}
STEPS_AT = 64  # pixels at which changes of a method are tried


SPLIT_ORDER = {protocol: i for i, protocol in enumerate(PROTOCOLS)}


def format_ci(entry: dict, percent: bool = True, digits: int | None = None, sign: bool = False) -> str:
    """`97.1 (96.0–98.0)` from {value, low, high}; "–" for None, no bracket where no interval could be drawn.

    `digits`: one in percent, otherwise three. `sign`: of a difference, written before every number.
    """
    if pd.isna(entry["value"]):
        return NONE
    scale, shape = 100 if percent else 1, f"{'+' if sign else ''}.{digits or (1 if percent else 3)}f"
    value, low, high = (
        None if pd.isna(entry[name]) else format(entry[name] * scale, shape) for name in ("value", "low", "high")
    )
    if low is None:
        return value
    return f"{value} ({low} to {high})" if sign else f"{value} ({low}–{high})"


def split_words(run: dict, beside: str = "") -> str:
    """The protocol of a record's run in a table's words; `beside`: the one that it is compared with, named where that
    one leaves out images which this one has."""
    if run["split"] == "patient":
        folds = "patient, all folds" if run["fold"] is None else f"patient fold {run['fold']}"
        return folds + ", not cleaned" * (beside == CLEANED)
    return f"external: {run['test_on']}" if run["split"] == "external" else run["split"]


def tested(record: dict) -> str:
    """The protocol of a record in a table's words, marked with `OLD_FOLDS` where it was split so."""
    return split_words(record["run"]) + mark(record)


def cell(record: dict | None, metric: str = "accuracy") -> str:
    """A metric of a record with its interval, marked with `OLD_FOLDS` where it was split so; "–" without a record."""
    if isinstance(record, pd.Series):
        return format_ci(interval(record, metric))
    return format_ci(record["metrics"][metric]) + mark(record) if record else NONE


def interval(run: pd.Series, metric: str = "accuracy") -> dict:
    """{value, low, high} of a metric of a row of `Evidence.runs`, missing where the run has no such metric."""
    return {name: run.get(f"{metric}{end}") for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))}


def mark(record: dict) -> str:
    """`OLD_FOLDS` behind a space for a run on folds that have been made anew since, else ""."""
    return f" {OLD_FOLDS}" if record.get("old_folds") else ""


def same_folds(record: dict, other: dict) -> bool:
    """Whether two runs may be compared: both were split by the present folds, or both by earlier ones."""
    return bool(record.get("old_folds")) == bool(other.get("old_folds"))


def beside(record: dict | None, baseline: dict | None) -> dict | None:
    """A baseline that may stand in the row of a record; None where the two were not split by the same folds."""
    return baseline if not (record and baseline) or same_folds(record, baseline) else None


def find_run(records: Sequence[dict], **wanted: object) -> dict | None:
    """The one record whose `run` has the values `wanted`, among runs on images as stored, asked for their
    label, unless another `view` or `target` is wanted.

    Baselines have no recipe and no size of their own: `image_size` holds for networks only.
    """
    wanted = {"view": "stored", "fold": 0, "target": "label"} | wanted
    if isinstance(records, pd.DataFrame):
        return _find_row(records, wanted)
    size = wanted.pop("image_size", FULL_SIZE)
    found = [
        r
        for r in records
        if all(({"target": "label"} | r["run"])[key] == value for key, value in wanted.items())
        and (r["recipe"] is None or r["run"]["image_size"] == size)
    ]
    return found[0] if found else None


def _find_row(runs: pd.DataFrame, wanted: dict) -> pd.Series | None:
    """`find_run` in the rows of `Evidence.runs`, for example `runs.query("task == 'segmentation'")`."""
    size = wanted.pop("image_size", FULL_SIZE)
    found = runs[runs.baseline | (runs.image_size == size)]
    for name, value in wanted.items():
        found = found[found[name].isna() if value is None else found[name] == value]
    return None if found.empty else found.iloc[0]


def shown_size(model: str, records: Sequence[dict]) -> int:
    """Pixels at which a model is shown beside others: those of all networks from scratch, or its own if fine-tuned."""
    own = [r["run"]["image_size"] for r in records if r["run"]["model"] == model and model.startswith(FINE_TUNED)]
    return max(own, default=FULL_SIZE)


def of_steps(run: dict) -> bool:
    return run["image_size"] == STEPS_AT


def is_pooled_elsewhere(record: dict, records: Sequence[dict]) -> bool:
    """Whether another record joins this fold with the others."""
    return any(record["id"] in other.get("pooled", ()) for other in records)


def in_table_order(records: Sequence[dict], key: Callable[[dict], tuple]) -> list[tuple]:
    """The keys of the records' runs: networks first, then what they have to beat."""

    def last(value: object) -> int:
        return {"1-NN": 2, "majority": 3}.get(value, 0) or int(str(value).startswith(PROBE))

    return sorted({key(r["run"]) for r in records}, key=lambda k: [(last(v), v) for v in k])


def training_columns(record: dict) -> dict[str, int]:
    run = record["run"]
    return {"width": run["n_filters"], "pixels": run["image_size"], "epochs": record["training"]["epochs"]}


def sensitivity_specificity(found: dict | None) -> str:
    return f"{format_ci(found['sensitivity'])} / {format_ci(found['specificity'])}" if found else NONE


def seconds_of_one(record: dict) -> float:
    """Seconds of one training; a record of pooled folds has the sum of all of theirs."""
    return record["training"]["seconds"] / len(record.get("pooled") or [record])


def minutes(record: dict | None) -> str:
    """Minutes of one training; "–" without a record."""
    return f"{seconds_of_one(record) / 60:.0f}" if record else NONE


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are; a line that says so where nothing was run.

    By hand, since pandas needs one more package for it, which pads every column to the width of its longest cell.
    """
    if table.empty:
        return "*not run yet*"
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
