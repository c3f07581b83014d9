"""Which images are trained on, which are tested: the protocols `published` and `patient`.

The patient folds of the real sets are committed under `splits/NAME.csv`, keyed by path. Reading is in `store.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from datasets.catalog import DataError, lookup
from datasets.store import read_manifest

SPLITS = Path(__file__).parent / "splits"
FOLDS = 5
PROTOCOLS = {
    "published": "the folders as the publisher ships them",
    "patient": f"{FOLDS} folds; no patient, duplicate or near-duplicate group on both sides",
}


@dataclass(frozen=True)
class Split:
    """Rows of the manifest for training, validation and test, and the group of every row.

    A group (patient, or duplicates of one picture where no patient is known) is what intervals resample and what
    validation never shares with training. Under `published` the test part shares groups with training as shipped.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    groups: np.ndarray


def grouped_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold number of every row: stratified by label, no group in two folds."""
    fold = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[rows] = number
    return fold


def read_splits(name: str, manifest: pd.DataFrame) -> pd.DataFrame | None:
    """The committed split table in the manifest's order, or None where none is committed.

    Raises:
        DataError: when an image of the manifest is missing from the table.
    """
    path = SPLITS / f"{name}.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("path")
    missing = manifest.path[~manifest.path.isin(table.index)]
    if len(missing):
        raise DataError(f"{path}: {len(missing)} images of '{name}' are not in it, first {missing.iloc[0]}.")
    return table.loc[manifest.path].reset_index()


def make_split(
    name: str, protocol: str = "published", fold: int = 0, *, val_fraction: float = 0.1, seed: int = 0
) -> Split:
    """Rows of data set `name` under a protocol.

    Args:
        name: data set, see `catalog.CATALOG`.
        protocol: "published" or "patient".
        fold: which of the 5 patient folds is the test part; ignored by "published".
        val_fraction: share of the training part that becomes validation, cut by group; 1/round(1/f) is used.
        seed: of the validation cut only. Patient folds never depend on it.

    Raises:
        DataError: unknown protocol, fold out of range, or a set that has no such protocol.
    """
    lookup(PROTOCOLS, protocol, "split")
    if not 0 <= fold < FOLDS:
        raise DataError(f"fold={fold}: the folds are 0 to {FOLDS - 1}")
    manifest = read_manifest(name)
    table = read_splits(name, manifest)
    labels = manifest.label.to_numpy()
    groups = table.group if table is not None else manifest.patient.where(manifest.patient != "", manifest.sha256)
    groups = groups.to_numpy()
    is_test = (
        _published_test(name, manifest)
        if protocol == "published"
        else _patient_folds(name, manifest, table, groups) == fold
    )
    rest = np.flatnonzero(~is_test)
    is_val = grouped_folds(labels[rest], groups[rest], round(1 / val_fraction), seed) == 0
    return Split(rest[~is_val], rest[is_val], np.flatnonzero(is_test), groups)


def _published_test(name: str, manifest: pd.DataFrame) -> np.ndarray:
    is_test = (manifest.published_split == "test").to_numpy()
    if not is_test.any():
        raise DataError(f"'{name}' was published without a test folder: use split='patient'")
    return is_test


def _patient_folds(name: str, manifest: pd.DataFrame, table: pd.DataFrame | None, groups: np.ndarray) -> np.ndarray:
    if table is not None:
        return table.fold.astype(int).to_numpy()
    if (manifest.patient == "").any():
        raise DataError(f"{SPLITS / (name + '.csv')}: '{name}' names no patients, and no patient split is committed")
    return grouped_folds(manifest.label.to_numpy(), groups, FOLDS, seed=0)
