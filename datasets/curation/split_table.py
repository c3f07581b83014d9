"""Makes the split table of a data set (patients, groups that must stay together, folds) and its summary in numbers."""

import hashlib

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import DataError
from datasets.curation.duplicates import (
    ALIKE,
    alike_pairs,
    components,
    duplicate_pairs,
    identical_pairs,
    s0_cleaning,
)
from datasets.curation.links import link
from datasets.curation.thumbnails import Thumbnails
from datasets.splitting import FOLDS, grouped_folds
from datasets.store import index

SPLIT_COLUMNS = ["path", "label", "published_split", "patient", "group", "transform", "label_conflict", "fold"]


def curate(
    images: Thumbnails,
    reference: Thumbnails | None = None,
    seed: int = 0,
    before: pd.DataFrame | None = None,
    alike: tuple[str, float] = ALIKE,
    folds: int = FOLDS,
) -> pd.DataFrame:
    """The split table of one data set, in manifest order, with `SPLIT_COLUMNS`.

    `patient` is the manifest's own, or that of the `reference` slice which the image shows. `group` joins what may
    not be separated: images of one patient, duplicates, near-duplicates, images alike (`duplicates.alike_pairs`), and
    whatever these share; it is named after the first path in it, so that a change elsewhere renames nothing.
    `transform` says how the publisher turned the reference slice. `label_conflict` is 1 where duplicates, or the image
    and its reference slice, carry different labels. A group that is in `before`, the table made last time, keeps its
    fold: what is found later moves the rows of the groups that it changes and no other.

    Args:
        alike: which thumbnails, and from which correlation of them on two images stay together, `Dataset.alike`;
            folds: how many, `Dataset.folds`.
    """
    table, pairs = images.table, duplicate_pairs(images)
    patient, transform = table.patient.to_numpy(dtype=object), np.full(len(table), "", object)
    conflict = np.zeros(len(table), bool)
    if reference is not None:
        links = link(images, reference)
        known = links.reference.to_numpy() >= 0
        slices = reference.table.iloc[links.reference[known]]
        patient[known], transform[known] = slices.patient, links["transform"][known]
        conflict[known] = slices.label.to_numpy() != table.label.to_numpy()[known]
    same_patient = identical_pairs([p or f"row {row}" for row, p in enumerate(patient)])
    similar = pd.DataFrame(dict(zip("ij", alike_pairs(images, alike[1], alike[0]), strict=True)))
    joined = pd.concat([pairs[["i", "j"]], same_patient, similar])
    member = components(len(table), joined.i.to_numpy(dtype=int), joined.j.to_numpy(dtype=int))
    group = table.path.groupby(member).transform("min").map(group_name).to_numpy()
    twins = components(len(table), pairs.i.to_numpy(dtype=int), pairs.j.to_numpy(dtype=int))
    labels = table.label.groupby(twins).transform("nunique").to_numpy()
    out = table[["path", "label", "published_split"]].assign(
        patient=patient,
        group=group,
        transform=transform,
        label_conflict=(conflict | (labels > 1)).astype(int),
        fold=grouped_folds(table.label.to_numpy(), group, folds, seed, kept_folds(before)),
    )
    return out[SPLIT_COLUMNS]


def require_published(name: str) -> None:
    """Raise `DataError` for a reader's own set: it is curated when it is brought in, by `relatives.find_groups`."""
    if catalog.get(name).layout == "own":
        place = catalog.dataset_dir(name) / index.GROUPS
        raise DataError(f"{place}: '{name}' was curated when it was brought in; take a published data set, or phantom")


def facts(images: Thumbnails, table: pd.DataFrame, alike: tuple[str, float] = ALIKE) -> dict[str, int]:
    """What a data set's split table says in numbers: links, leakage, conflicts and S0's own count of duplicates."""
    test, linked = table.published_split.eq("test"), table["transform"].ne("")
    in_training = table.patient.isin(set(table.patient[~test & table.patient.ne("")]))
    wrong = linked & table.label_conflict.eq(1)
    sha, pixels = images.table.sha256, images.table.pixels
    return {
        "images": len(table),
        "linked images": int(linked.sum()),
        "linked patients": table.patient[linked].nunique(),
        "linked test images": int((test & linked).sum()),
        "linked test images with their patient in training": int((test & linked & in_training).sum()),
        "test images with a byte-identical training twin": int((test & sha.isin(set(sha[~test]))).sum()),
        "test images with a pixel-identical training twin": int((test & pixels.isin(set(pixels[~test]))).sum()),
        **{f"linked images, {name}": int(n) for name, n in table["transform"][linked].value_counts().items()},
        "images in a label conflict": int(table.label_conflict.sum()),
        **{
            f"linked test images in a label conflict: {label}": int((test & wrong & table.label.eq(label)).sum())
            for label in sorted(table.label[test & wrong].unique())
        },
        "removed by S0's rule": len(table) - len(s0_cleaning(images)),
        "groups": table.group.nunique(),
        "largest group": int(table.group.value_counts().max()),
        f"images alike one in another fold (correlation {alike[1]})": len(
            alike_across_folds(images, table, alike[1], alike[0])
        ),
        "most rows that move when a group splits in two": most_moved(table, kept_folds(table)),
        "most rows that move then without the table made before": most_moved(table, {}),
        **{f"fold {fold}, {label}": int(n) for (fold, label), n in table.groupby(["fold", "label"]).size().items()},
    }


def alike_across_folds(
    images: Thumbnails, table: pd.DataFrame, correlation: float = ALIKE[1], of: str = ALIKE[0]
) -> np.ndarray:
    """Rows that have an image alike in another fold, found by brute force: none, as long as `table` is of `images`."""
    i, j = alike_pairs(images, correlation, of)
    fold = table.fold.to_numpy()
    crossing = fold[i] != fold[j]
    return np.unique(np.concatenate([i[crossing], j[crossing]]))


def kept_folds(before: pd.DataFrame | None) -> dict[str, int]:
    """Group → fold of a table made before."""
    return {} if before is None else dict(zip(before.group, before.fold.astype(int), strict=True))


def most_moved(table: pd.DataFrame, kept: dict[str, int], tries: int = 40) -> int:
    """How many rows get another fold when one of the `tries` largest groups falls into two halves, at most.

    `kept` are the folds that are held, see `grouped_folds`.
    """
    labels, groups = table.label.to_numpy(), table.group.to_numpy(dtype=object)
    fold, most = table.fold.to_numpy(), 0
    for name in table.group.value_counts().index[:tries]:
        halved, rows = groups.copy(), np.flatnonzero(groups == name)
        halved[rows[len(rows) // 2 :]] = f"{name}, second half"
        most = max(most, int((grouped_folds(labels, halved, table.fold.nunique(), 0, kept) != fold).sum()))
    return most


def group_name(first_path: str) -> str:
    """Short name of the group whose first path, in alphabetical order, is given."""
    return "g" + hashlib.sha256(first_path.encode()).hexdigest()[:10]
