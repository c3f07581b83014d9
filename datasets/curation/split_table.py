"""Makes the split table of a data set (patients, groups that must stay together, folds) and its summary in numbers.

`curate` makes the committed tables; `find_groups` the groups of a reader's own set, whose limit of likeness is unknown.
"""

import hashlib

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import DataError
from datasets.curation.duplicates import alike_pairs, components, duplicate_pairs, identical_pairs, s0_cleaning
from datasets.curation.links import link
from datasets.curation.thumbnails import Thumbnails
from datasets.splitting import FOLDS, grouped_folds
from datasets.store import index

SPLIT_COLUMNS = ["path", "label", "published_split", "patient", "group", "transform", "label_conflict", "fold"]
CORRELATIONS = (0.93, 0.95, 0.97)  # from which on images of a reader's own set may be joined
MOST = 20_000  # images that are compared all with all in a few minutes; of more, copies alone are joined


def curate(
    images: Thumbnails,
    reference: Thumbnails | None = None,
    before: pd.DataFrame | None = None,
    folds: int = FOLDS,
) -> pd.DataFrame:
    """The split table of one data set, in manifest order, with `SPLIT_COLUMNS`.

    `patient` is the manifest's own, or that of the `reference` slice which the image shows. `group` joins what may
    not be separated: images of one patient, duplicates, near-duplicates, images alike (`duplicates.alike_pairs`), and
    whatever these share; it is named after the first path in it, so that a change elsewhere renames nothing.
    `transform` says how the publisher turned the reference slice. `label_conflict` is 1 where duplicates, or the image
    and its reference slice, carry different labels. A group that is in `before`, the table made last time, keeps its
    fold: what is found later moves the rows of the groups that it changes and no other. `folds`: of `Dataset`.
    """
    copies = duplicate_pairs(images)
    out = images.table[["path", "label", "published_split", "patient"]].assign(transform="")
    conflict = _conflicts(out, copies)
    if reference is not None:
        links = link(images, reference)
        known = links.index[links.reference >= 0]
        slices = reference.table.iloc[links.reference[known]].set_axis(known)
        out = out.assign(patient=slices.patient.reindex(out.index).fillna(out.patient), transform=links["transform"])
        conflict[known] |= slices.label != out.label[known]
    member = components(len(out), copies, identical_pairs(out.patient), alike_pairs(images))
    out = out.assign(group=_names(out.path, member), label_conflict=conflict.astype(int))
    out["fold"] = grouped_folds(out.label.to_numpy(), out.group.to_numpy(), folds, 0, _kept_folds(before))
    return out[SPLIT_COLUMNS]


def _conflicts(table: pd.DataFrame, copies: pd.DataFrame) -> pd.Series:
    """Whether an image has a duplicate with another label."""
    return table.label.groupby(components(len(table), copies)).transform("nunique") > 1


def _names(paths: pd.Series, member: np.ndarray) -> pd.Series:
    """The name of the group of each image: short, and of its first path in alphabetical order."""
    first = paths.groupby(member).transform("min")
    return first.map(lambda path: "g" + hashlib.sha256(path.encode()).hexdigest()[:10])


def _kept_folds(before: pd.DataFrame | None) -> dict[str, int]:
    """Group → fold of a table made before."""
    return {} if before is None else dict(zip(before.group, before.fold.astype(int), strict=True))


def find_groups(images: Thumbnails) -> tuple[pd.DataFrame, str]:
    """The groups of a reader's own set, in manifest order, and a sentence on how images alike were joined.

    A group joins images of one patient, duplicates, near-duplicates and images alike, as in the committed tables, and
    whatever these share. Images alike are joined from the lowest of `CORRELATIONS` on at which no group outgrows a
    fold: brains without a skull, all turned alike, correlate by more than .93 from person to person, and would become
    one group. An image of one grey value, such as a slice above the head, has no relative but its patient's images.
    The table holds path, label, patient, group, and `label_conflict`, 1 where duplicates carry different labels.
    """
    table, size = images.table, len(images)
    shown = np.flatnonzero(images.thumbnails.any(axis=(1, 2)))
    some = images.rows(shown)

    def in_set(pairs: pd.DataFrame) -> pd.DataFrame:
        return pairs[["i", "j"]].apply(lambda end: shown[end.to_numpy(int)])

    copies = in_set(duplicate_pairs(some))
    surely = [copies, identical_pairs(table.patient)]
    member = components(size, *surely)
    said = f"copies alone were looked for, of {size:,} images"
    if size <= MOST:
        most = max(size / FOLDS, np.bincount(member).max(initial=0))
        run_together = ""
        for correlation in CORRELATIONS:
            found = components(size, *surely, in_set(alike_pairs(some, ("packed", correlation))))
            largest = np.bincount(found).max(initial=0)
            if largest <= most:
                member, said = found, f"images alike (correlation of at least {correlation:g}) are joined"
                break
            run_together = f"; at {correlation:g} they would run together into a group of {largest:,}"
        else:
            said = "only copies are joined"
        said += run_together
    out = table[["path", "label", "patient"]].assign(group=_names(table.path, member))
    return out.assign(label_conflict=_conflicts(table, copies).astype(int)), said


def require_published(name: str) -> None:
    """Raise `DataError` for a reader's own set: it is curated when it is brought in, by `find_groups`."""
    if catalog.get(name).layout == "own":
        place = catalog.dataset_dir(name) / index.GROUPS
        raise DataError(f"{place}: '{name}' was curated when it was brought in; take a published data set, or phantom")


def facts(images: Thumbnails, table: pd.DataFrame) -> dict[str, int]:
    """What a data set's split table says in numbers: links, leakage, conflicts and S0's own count of duplicates."""
    test, linked = table.published_split.eq("test"), table["transform"].ne("")
    in_training = table.patient.isin(set(table.patient[~test]) - {""})
    wrong, sha, pixels = table.label_conflict.eq(1), images.table.sha256, images.table.pixels
    wrong_tests = table.label[test & linked & wrong].value_counts().sort_index()
    counts = {
        "images": len(table),
        "linked images": linked.sum(),
        "linked patients": table.patient[linked].nunique(),
        "linked test images": (test & linked).sum(),
        "linked test images with their patient in training": (test & linked & in_training).sum(),
        "test images with a byte-identical training twin": (test & sha.isin(sha[~test])).sum(),
        "test images with a pixel-identical training twin": (test & pixels.isin(pixels[~test])).sum(),
        **{f"linked images, {name}": n for name, n in table["transform"][linked].value_counts().items()},
        "images in a label conflict": wrong.sum(),
        **{f"linked test images in a label conflict: {label}": n for label, n in wrong_tests.items()},
        "removed by S0's rule": len(table) - len(s0_cleaning(images)),
        "groups": table.group.nunique(),
        "largest group": table.group.value_counts().max(),
        f"images alike one in another fold (correlation {images.alike[1]})": len(alike_across_folds(images, table)),
        "most rows that move when a group splits in two": _most_moved(table, _kept_folds(table)),
        "most rows that move then without the table made before": _most_moved(table, {}),
        **{f"fold {fold}, {label}": n for (fold, label), n in table.groupby(["fold", "label"]).size().items()},
    }
    return {name: int(count) for name, count in counts.items()}


def alike_across_folds(images: Thumbnails, table: pd.DataFrame) -> np.ndarray:
    """Rows that have an image alike in another fold, found by brute force: none, as long as `table` is of `images`."""
    pairs, fold = alike_pairs(images), table.fold.to_numpy()
    return np.unique(pairs[fold[pairs.i] != fold[pairs.j]])


def _most_moved(table: pd.DataFrame, kept: dict[str, int]) -> int:
    """How many rows get another fold when one of the 40 largest groups falls into two halves, at most.

    `kept` are the folds that are held, see `grouped_folds`.
    """
    labels, groups = table.label.to_numpy(), table.group.to_numpy(dtype=object)
    fold, most = table.fold.to_numpy(), 0
    for name in table.group.value_counts().index[:40]:
        halved, rows = groups.copy(), np.flatnonzero(groups == name)
        halved[rows[len(rows) // 2 :]] = f"{name}, second half"
        most = max(most, int((grouped_folds(labels, halved, table.fold.nunique(), 0, kept) != fold).sum()))
    return most
