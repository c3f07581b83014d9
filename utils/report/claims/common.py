"""Shared by all sentences: differences image by image, and the wording of an interval."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from datasets import catalog
from utils.evaluation.ablation import as_family
from utils.evaluation.intervals import mean_interval
from utils.evaluation.paired import paired_difference
from utils.evaluation.segmentation import by_patient
from utils.report.claims.old import Evidence
from utils.report.claims.old.common import OLD_FOLDS, format_ci, mark, same_folds

LEVEL = 0.05  # of a paired test
TEST = f"paired test, p < {LEVEL} after correction for the number of comparisons"
UNCORRECTED = "95 % intervals, not corrected for their number"  # of what has no paired test
OPEN, MISSING = "an interval that includes 0", "without an interval"


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
        f"{OLD_FOLDS} with earlier groups of images: its folds, or what cleaning kept, are not the present ones; "
        "to be run again on the present ones."
    )
    return f"{text}\n\n{meaning}" if OLD_FOLDS in text else text


def points(entry: dict) -> str:
    """`+1.2 (+0.3 to +2.0) points` of a difference of shares."""
    return f"{format_ci(entry, sign=True)} points"


def direction(entry: dict) -> int:
    """1 where a difference is shown to lie above 0, -1 below, 0 where none is shown.

    Shown: its interval does not include 0, its p is below `LEVEL` (`p_corrected` of one of many comparisons, `p` of a
    single one; a difference without a test is judged by its interval), and it has one sign for every seed (`by_seed`).
    """
    return 0 if why_none(entry) else 1 if entry["low"] > 0 else -1


def why_none(entry: dict) -> str:
    """What keeps a difference from being shown; "" where it is shown."""
    if entry["low"] is None:
        return MISSING
    if entry["low"] <= 0 <= entry["high"]:
        return OPEN
    p, seeds = entry.get("p_corrected", entry.get("p", 0)), entry.get("by_seed", ())
    corrected = " after correction" if "p_corrected" in entry else ""
    reasons = [f"p = {p:.3f}{corrected}"] if p >= LEVEL else []
    reasons += ["not of one sign for every seed"] if len({np.sign(value) for value in seeds}) > 1 else []
    return " and ".join(reasons)


def by_direction(differences: dict[str, dict]) -> dict[int, list[str]]:
    """The names of differences by `direction`: above 0 (1), below (-1), none shown (0)."""
    found: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for name, entry in differences.items():
        found[direction(entry)].append(name)
    return found


def seeds_apart(found: dict[str, dict]) -> float:
    """How far two seeds of one method lie apart at most; `found` as of `ablation.compare`."""
    return max(max(entry["seeds"]) - min(entry["seeds"]) for entry in found.values())


def apart(a: dict, b: dict) -> bool:
    """Whether two intervals do not overlap."""
    return a["low"] > b["high"] or b["low"] > a["high"]


def named(name: str, entry: dict) -> str:
    """A method and its difference, which is left out where the interval alone says that none is shown."""
    why = why_none(entry)
    return f"`{name}`" if why in (OPEN, MISSING) else f"`{name}` ({points(entry)}{why and f', {why}'})"


def accuracy_difference(evidence: Evidence, record: dict, reference: dict) -> dict | None:
    """Accuracy of a run minus that of another on the same test images, image by image, {value, low, high, p}; None
    where they tested different images, or one of them was split by earlier folds."""
    if not same_folds(record, reference):
        return None
    return paired_difference(evidence.predictions(record), evidence.predictions(reference))


def dice_difference(evidence: Evidence, record: dict, reference: dict) -> dict | None:
    """Dice of a run minus that of another on the same patients, patient by patient; None for different patients, and
    where one of them was split by earlier folds."""
    gains = _gains(evidence, record, reference)
    return None if gains is None else mean_interval(gains.gain, gains.group)


def dice_difference_by_seed(evidence: Evidence, records: Sequence[dict], references: Sequence[dict]) -> dict | None:
    """`dice_difference` of two methods, the mean over their seeds and `by_seed` that of each; None where one of these
    is. Both lists are in the order of the seeds."""
    gains = [_gains(evidence, *pair) for pair in zip(records, references, strict=True)]
    if any(table is None for table in gains):
        return None
    # Every patient stands in the table once a seed, in the same group: the mean over rows is that over seeds.
    joined = pd.concat(gains, ignore_index=True)
    return mean_interval(joined.gain, joined.group) | {"by_seed": [float(table.gain.mean()) for table in gains]}


def _gains(evidence: Evidence, record: dict, reference: dict) -> pd.DataFrame | None:
    """`group` of each patient and `gain`, the Dice by one run minus that by another."""
    if not same_folds(record, reference):
        return None
    channels = catalog.get(record["run"]["dataset"]).mask_channels
    first, second = (by_patient(evidence.predictions(r), channels) for r in (record, reference))
    if first.patient.tolist() != second.patient.tolist():
        return None
    dice = [np.mean([table[f"{name}.dice"] for name in channels], axis=0) for table in (first, second)]
    return pd.DataFrame({"group": first.group, "gain": dice[0] - dice[1]})


def verdicts(differences: Sequence[dict | None]) -> list[str]:
    """`found_or_none` of each of the differences of one sentence, whose p are corrected for their number."""
    family = iter(as_family([difference for difference in differences if difference]))
    return [found_or_none(next(family) if difference else None) for difference in differences]


def found_or_none(value: dict | None) -> str:
    """A difference in words, with what is to be made of it."""
    if value is None:
        return "tested on different images or split by other folds, so their difference is not taken"
    why = why_none(value)
    return points(value) + (f", {why}: no difference is shown" if why else "")
