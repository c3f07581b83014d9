"""Shared by all sentences: differences image by image, and the wording of an interval."""

from collections.abc import Iterable

import numpy as np

from datasets import catalog
from utils.analysis.paired import paired_difference
from utils.evaluation.intervals import mean_interval
from utils.evaluation.segmentation import by_patient
from utils.reporting.records import Evidence
from utils.reporting.tables.common import OLD_FOLDS, format_ci, mark

LEVEL = 0.05  # of a paired test


def not_run(what: str) -> str:
    """The sentence of a claim whose runs are missing."""
    return f"*{what[0].upper()}{what[1:]}: not run yet.*"


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(items) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def bullets(intro: str, items: Iterable[str]) -> str:
    """A sentence and a list below it, in Markdown."""
    return "\n".join([intro, "", *(f"- {item}" for item in items)])


def percent(record: dict, metric: str = "accuracy") -> str:
    """`97.1 (96.0–98.0) %` of a run, marked where it was made on earlier folds; `explained` says what that means."""
    return f"{format_ci(record['metrics'][metric])} %{mark(record)}"


def explained(text: str) -> str:
    """A text with the meaning of `OLD_FOLDS` behind it, where a run in it has that mark."""
    meaning = (
        f"{OLD_FOLDS} on earlier folds, in which some images still resembled one in another fold; "
        "to be run again on the present ones."
    )
    return f"{text}\n\n{meaning}" if OLD_FOLDS in text else text


def points(entry: dict) -> str:
    """`+1.2 (+0.3 to +2.0) points` of a difference of shares."""
    return f"{format_ci(entry, sign=True)} points"


def direction(entry: dict) -> int:
    """1 where the interval of a difference lies above 0, -1 below, 0 where it includes 0 or could not be drawn.

    One of many comparisons carries `p_corrected`, a p-value corrected for their number: 0 unless it is below `LEVEL`.
    """
    if entry["low"] is None or entry.get("p_corrected", 0) >= LEVEL:
        return 0
    return int(entry["low"] > 0) - int(entry["high"] < 0)


def by_direction(differences: dict[str, dict]) -> dict[int, list[str]]:
    """The names of differences whose interval lies above 0 (1), below (-1) or includes it (0)."""
    found: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for name, entry in differences.items():
        found[direction(entry)].append(name)
    return found


def apart(a: dict, b: dict) -> bool:
    """Whether two intervals do not overlap."""
    return a["low"] > b["high"] or b["low"] > a["high"]


def accuracy_difference(evidence: Evidence, record: dict, reference: dict) -> dict | None:
    """Accuracy of a run minus that of another on the same test images, image by image, {value, low, high}; None where
    they tested different images."""
    return paired_difference(evidence.predictions(record), evidence.predictions(reference))


def dice_difference(evidence: Evidence, record: dict, reference: dict) -> dict | None:
    """Dice of a run minus that of another on the same patients, patient by patient; None for different patients."""
    channels = catalog.get(record["run"]["dataset"]).mask_channels
    first, second = (by_patient(evidence.predictions(r), channels) for r in (record, reference))
    if first.patient.tolist() != second.patient.tolist():
        return None
    dice = [np.mean([table[f"{name}.dice"] for name in channels], axis=0) for table in (first, second)]
    return mean_interval(dice[0] - dice[1], first.group)


def found_or_none(value: dict | None) -> str:
    """A difference in words, with what is to be made of it."""
    if value is None:
        return "tested on different images, so their difference is not taken"
    return points(value) + ("" if direction(value) else ", an interval that includes 0: no difference is shown")
