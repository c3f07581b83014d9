"""Divides a data set into training, validation and test set by one of the protocols in `PROTOCOLS`.

Their tables are committed under `splits/` and made by `python -m datasets.curation`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import DataError, lookup
from datasets.labels import classes_of, external_target, viewed
from datasets.reading import read_table
from datasets.store import index
from datasets.store.index import read_manifest, read_splits, strata

FOLDS = 5  # of the committed tables; `Dataset.folds` differs where patients are few
DRAWN = {"slices": 0.1, "random": 0.2}  # share of the images that these protocols draw as the test set
MIDDLE = (39, 115)  # S2's 77 slices of a BraTS volume, first and last
SELECTIONS = ("all", "middle")
PROTOCOLS = {
    "published": "the folders as the publisher ships them",
    "cleaned": "these folders after S0's cleaning: of images with one pHash, one is kept",
    "slices": "S2's for volumes: a tenth of the slices, drawn at random, though their neighbours are trained on",
    "random": "S4's: a fifth of the images, drawn at random, whatever else of their patients is trained on",
    "patient": f"{FOLDS} folds; no patient, duplicate or near-duplicate group on both sides",
    "source": "of a joined set: the images of one source are tested on, those of the others trained on",
    "external": "trained on the whole set, tested on what another set has that this one has not",
}


@dataclass(frozen=True)
class Split:
    """Rows for training, validation and test, and their groups: what intervals count and validation never shares
    with training, unless it was cut at random. Under `published` the test set shares groups with training as shipped.
    """

    train: np.ndarray  # rows of the manifest
    val: np.ndarray
    test: np.ndarray  # rows of the manifest of `test_set`
    groups: np.ndarray  # of every row of the manifest
    test_set: str  # another set only under `external`
    test_groups: np.ndarray

    @property
    def train_val(self) -> np.ndarray:
        """Rows that are not tested, training and validation."""
        return np.concatenate([self.train, self.val])

    @property
    def seen(self) -> np.ndarray:
        """Of each test image, whether an image of its group is in training or validation."""
        return np.isin(self.test_groups, self.groups[self.train_val])


def grouped_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, seed: int, kept: Mapping[str, int] | None = None
) -> np.ndarray:
    """Fold number of every row: stratified by label, no group in two folds.

    Consistent hashing with bounded loads (Mirrokni et al. 2016, arXiv:1608.01350): each group, the largest first, goes
    to the first fold in an order of its own, drawn from its name, that has room for its labels. So the folds are of
    equal size and do not depend on the order of the rows, and a group that changes moves few others: in
    scikit-learn's `StratifiedGroupKFold` a tenth of all rows moved when one group of eight fell into two.

    `kept`: group name → fold that it had before and keeps. Raises `DataError` for fewer groups than folds.
    """
    names, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    if len(names) < folds:
        raise DataError(f"{len(names)} patients or groups are too few for {folds} parts; bring in images of more")
    kinds, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(kinds)))
    np.add.at(counts, (member, label), 1)
    share = counts.sum(0) / folds
    most = np.ceil(share)
    fold = np.array([(kept or {}).get(name, -1) for name in names])
    loads = np.stack([counts[fold == f].sum(0) for f in range(folds)])
    digests = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names]
    order = sorted(np.flatnonzero(fold < 0), key=lambda g: (-counts[g].sum(), digests[g]))
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        own = counts[group] > 0
        empty = [f for f in range(folds) if not loads[f].any()] if left <= folds else []
        among = empty if left <= len(empty) else range(folds)  # no fold may stay without a group
        preferred = sorted(among, key=lambda f: hashlib.sha256(digests[group] + bytes([f])).digest())
        after = loads + counts[group]
        fold[group] = next((f for f in preferred if (after[f] <= most)[own].all()), -1)
        if fold[group] < 0:  # none has room
            fold[group] = min(preferred, key=lambda f: (after[f] / share)[own].max())
        loads[fold[group]] += counts[group]
    return fold[member]


def groups_of(name: str, manifest: pd.DataFrame) -> np.ndarray:
    """Group of every image: the committed table's, else the patient, else the file's digest."""
    table = read_splits(name, manifest)
    if table is not None:
        return table.group.to_numpy()
    return manifest.patient.where(manifest.patient != "", manifest.sha256).to_numpy()


def make_split(
    name: str,
    protocol: str = "published",
    fold: int = 0,
    *,
    test_on: str = "",
    target: str = "label",
    val_fraction: float = 0.1,
    val_cut: str = "group",
    seed: int = 0,
    selection: str = "all",
) -> Split:
    """Rows of data set `name` under a protocol.

    Args:
        name: data set, see `catalog.CATALOG`; protocol: key of `PROTOCOLS`.
        fold: which of the patient folds (`Dataset.folds`, mostly 5), or of the sources, by name, is the test set;
            ignored by the other protocols.
        test_on: the data set that `external` tests on, without its images that have a relative in `name` or a class
            that `name` does not have.
        target: key of `labels.TARGETS`, what is asked of the images; folds are the same for all.
        val_fraction: share of the training set that becomes validation: 1/round(1/f), or one group; 0: none of it.
        val_cut: "group", so that validation shares no group with training; or, as some authors cut it, "random", image
            by image, or "first", the first paths of each class: validation is then as optimistic as their split.
        seed: of the validation cut only. What is tested never depends on it. With 0, the folds' own, groups of fold 0
            are held out first: compare a run on another split with one by patient on another fold than that.
        selection: of `SELECTIONS`; "middle" leaves S2's 77 middle slices of each volume in all three parts.

    Raises `DataError` for what a set has not, for a set that is for testing only, and for groups on two sides.
    """
    lookup(PROTOCOLS, protocol, "split")
    lookup(dict.fromkeys(SELECTIONS), selection, "selection")
    facts = catalog.get(name)
    if facts.test_only:
        raise DataError(f"'{name}' is for testing only: train on another set, with split='external', test_on='{name}'")
    if not 0 <= fold < facts.folds:
        raise DataError(f"fold={fold}: the folds are 0 to {facts.folds - 1}")
    if (protocol == "external") != bool(test_on):
        raise DataError(f"split='{protocol}', test_on='{test_on}': 'external', and no other, names a set to test on")
    if selection == "middle" and (facts.slices == 1 or test_on):
        raise DataError(f"selection='middle': '{name}' holds no volumes, take selection='all'")
    if test_on and catalog.get(test_on).name == name:
        raise DataError(f"test_on='{test_on}': the set cannot be external to itself")
    manifest = read_manifest(name)
    labels, groups = strata(name, manifest), groups_of(name, manifest)
    kept, is_test = np.ones(len(manifest), bool), np.zeros(len(manifest), bool)
    if selection == "middle":
        in_middle = manifest["slice"].astype(int).between(*MIDDLE).to_numpy()
    if protocol == "patient":
        table = read_splits(name, manifest)
        if table is None and (manifest.patient == "").any():
            committed = index.SPLITS / f"{name}.csv"
            raise DataError(f"{committed}: '{name}' names no patients, and no patient split is committed")
        drawn_now = table is None or "fold" not in table
        folds = grouped_folds(labels, groups, facts.folds, seed=0) if drawn_now else table.fold.astype(int).to_numpy()
        is_test = folds == fold
    elif protocol == "source":
        if fold >= len(facts.joins):
            joined = f"joins {', '.join(facts.joins)}" if facts.joins else "joins no sources"
            raise DataError(f"split='source', fold={fold}: '{name}' {joined}; take another fold or split")
        is_test = manifest.source.eq(facts.joins[fold]).to_numpy()
    elif protocol in DRAWN:
        is_test = drawn(len(manifest), protocol)
    elif protocol in ("published", "cleaned"):
        is_test = manifest.published_split.eq("test").to_numpy()
        if not is_test.any():
            raise DataError(f"'{name}' was published without a test folder: use split='patient'")
    if protocol == "cleaned":
        kept = ~manifest.path.isin(_table(f"s0/{name}.csv", name).path).to_numpy()
    rest, test = np.flatnonzero(kept & ~is_test), np.flatnonzero(kept & is_test)
    test_groups = groups[test]
    if test_on:
        test, test_groups = _external_test(name, test_on, target)
    is_val = np.zeros(len(rest), bool)
    if val_fraction and val_cut == "random":
        is_val[np.random.default_rng(seed).permutation(len(rest))[: round(val_fraction * len(rest))]] = True
    elif val_fraction and val_cut == "first":
        of_class = pd.Series(manifest.path.to_numpy()[rest]).groupby(labels[rest])
        is_val = (of_class.rank() <= (val_fraction * of_class.transform("size")).astype(int)).to_numpy()
    elif val_fraction:
        parts = min(round(1 / val_fraction), len(np.unique(groups[rest])))
        is_val = grouped_folds(labels[rest], groups[rest], parts, seed) == 0
    train, val = rest[~is_val], rest[is_val]
    if selection == "middle":
        train, val, test = (rows[in_middle[rows]] for rows in (train, val, test))
        test_groups = groups[test]
    shared = val_cut == "group" and set(groups[train]) & set(groups[val])
    if shared or (protocol in ("patient", "source") and set(groups[test]) & set(groups[rest])):
        raise DataError(f"'{name}', split='{protocol}': a group is on two sides; make its table in splits/ anew")
    return Split(train, val, test, groups, test_on or name, test_groups)


def drawn(images: int, protocol: str) -> np.ndarray:
    """Whether each of `images` is drawn for the test set by a protocol of `DRAWN`, bool; always the same ones."""
    return np.random.default_rng(0).permutation(images) < images * DRAWN[protocol]


def _table(path: str, *names: str) -> pd.DataFrame:
    """A table of one or two sets under `splits/`, or beside a reader's own."""
    own = [name for name in names if catalog.get(name).layout == "own"]
    table = (catalog.dataset_dir(own[0]) if own else index.SPLITS) / path
    if not table.is_file():
        words = " ".join([*names, *([] if own else ["--write"])])
        raise DataError(f"{table}: not there; make it with: python -m datasets.curation {words}")
    for name in names:
        index.refuse_part(name, read_manifest(name), table)
    return read_table(table, needs=["path"])


def _external_test(name: str, test_on: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `test_on` that `name` has no relative of, and their groups."""
    target = external_target(name, test_on, target)
    manifest = read_manifest(test_on)
    shared = test_on not in catalog.get(name).without and related(test_on, name, manifest)
    fits = target == "findings" or viewed(manifest.label, target).isin(classes_of(name, target))
    rows = np.flatnonzero(~shared & fits)
    if not len(rows):
        raise DataError(f"'{test_on}' has no image, of a class of '{name}', that '{name}' has no relative of")
    return rows, groups_of(test_on, manifest)[rows]


def related(name: str, other: str, manifest: pd.DataFrame) -> np.ndarray:
    """Of every image of `name`, whether the committed table of the two sets names a relative of it in `other`; bool."""
    overlap = _table(overlap_file(name, other), other, name)
    return manifest.path.isin(overlap.path[overlap.dataset == name]).to_numpy()


def copies_file(name: str) -> str:
    """Path under `splits/` of the list of copies in two folds of data set `name`."""
    return f"copies/{name}.csv"


def overlap_file(a: str, b: str) -> str:
    """Path under `splits/` of the table of images that two sets share; the order of the two does not matter."""
    return f"overlap/{'+'.join(sorted((a, b)))}.csv"
