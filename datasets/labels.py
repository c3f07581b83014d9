"""What is asked of an image: its label as published, or a view of it, such as tumour or none, or of "Meningioma T1C+"
the type or the MR sequence alone.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import HEALTHY, TUMOUR, DataError, lookup
from datasets.store.index import read_manifest

SEQUENCES = ("T1", "T1C+", "T2")
TARGETS = {
    "label": "the class as published",
    "tumour": "tumour or none",
    "type": "the type of tumour, or none, whatever the sequence",
    "sequence": "the MR sequence, whatever is on the image",
    "findings": "each finding, or each mask, for itself: none, one or several an image",
}
CLASS_TARGETS = tuple(target for target in TARGETS if target != "findings")  # of these an image has one class


def view(label: str, target: str) -> str:
    """A label as a target sees it; "" where it says nothing of that. A label that names no sequence is a type."""
    if target in ("label", "findings"):
        return label
    kind, _, sequence = label.rpartition(" ")
    if not kind or sequence not in SEQUENCES:
        kind, sequence = label, ""
    if target == "tumour":
        return HEALTHY if kind == HEALTHY else TUMOUR
    return kind if target == "type" else sequence


def viewed(labels: pd.Series, target: str) -> pd.Series:
    """Every label as `target`, a key of `TARGETS`, sees it."""
    return labels.map({label: view(label, target) for label in labels.unique()})


def classes_of(name: str, target: str = "label") -> tuple[str, ...]:
    """The classes of data set `name` under a target, in the order of their numbers; `DataError` where its labels do
    not tell it.
    """
    lookup(TARGETS, target, "target")
    facts = catalog.get(name)
    published = facts.classes or tuple(sorted(read_manifest(name).label.unique()))  # the latter says what is not here
    if target == "findings":
        if not (facts.findings or facts.mask_channels):
            raise DataError(f"target='findings': '{name}' has neither findings nor masks; take target='label'")
        return facts.findings or facts.mask_channels
    if facts.findings:
        raise DataError(f"target='{target}': an image of '{name}' may show several findings; take target='findings'")
    if target == "label":
        return published
    classes = tuple(sorted({view(label, target) for label in published}))
    if len(classes) < 2 or "" in classes:
        raise DataError(f"target='{target}': the labels of '{name}' do not tell {TARGETS[target]}; take target='label'")
    return classes


def external_target(name: str, test_on: str, target: str = "label") -> str:
    """Under which target a model of `name` is tested on `test_on`: its own where they share classes, else "tumour";
    `DataError` where they share none, and one of them has no images without a tumour.
    """
    if name == test_on:
        return target
    mine, other = classes_of(name, target), classes_of(test_on, target)
    if target == "findings" and mine != other:
        raise DataError(f"test_on='{test_on}': its findings are not those of '{name}'")
    if (set(mine) & set(other)) - {HEALTHY}:
        return target
    for known in (name, test_on):
        if HEALTHY not in {view(label, "type") for label in catalog.get(known).classes}:
            shared = f"it shares no class with '{name}', and '{known}' has no images without a tumour"
            raise DataError(f"test_on='{test_on}': {shared}; test it on another set")
    return "tumour"


def united(probabilities: np.ndarray, classes: Sequence[str], target: str, wanted: Iterable[str]) -> np.ndarray:
    """Probabilities N×K of `classes` as those of the `wanted` classes of a target, N×M: what becomes one, is added.

    Tumour or none of four classes is so asked through 1 − p(no tumour).
    """
    seen = np.array([view(c, target) for c in classes])
    return np.stack([probabilities[:, seen == c].sum(1) for c in wanted], axis=1)
