"""What an image shows of several things at once: the findings of its label, or the masks that are not empty."""

import numpy as np
import pandas as pd

from datasets import catalog, hdf5
from datasets.store.index import check_command, require


def read_findings(name: str, manifest: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Whether each of some rows shows each of `labels.classes_of(name, "findings")`, uint8 0/1 N×K.

    Sets whose labels name findings are read from the manifest; of sets with masks, a finding is a mask that is not
    empty.
    """
    facts = catalog.get(name)
    if facts.findings:
        named = manifest.label.iloc[rows].str.split("|")
        return np.array([[finding in shown for finding in facts.findings] for shown in named], np.uint8).reshape(
            len(rows), len(facts.findings)
        )
    with hdf5.opened(require(name) / "images.h5", check_command(name)) as store:
        masks = hdf5.array(store, "mask", most=None)
        found = [masks[int(row)].any(axis=(0, 1)) for row in rows]
    return np.array(found, np.uint8).reshape(len(rows), len(facts.mask_channels))


def strata(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """By what folds are stratified: the label, and where it names several findings, the rarest of them."""
    labels = manifest.label.to_numpy()
    if not catalog.get(name).findings:
        return labels
    shown = manifest.label.str.split("|")
    often = shown.explode().value_counts()
    return np.array([min(names, key=lambda finding: (often[finding], finding)) for names in shown])
