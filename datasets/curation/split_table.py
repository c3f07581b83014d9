"""Makes the split table of a data set (patients, groups that must stay together, folds) and its summary in numbers."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets import catalog
from datasets.catalog import DataError
from datasets.curation import links
from datasets.curation.duplicates import alike_pairs, components, duplicate_pairs, identical_pairs, s0_cleaning
from datasets.curation.thumbnails import Thumbnails, accuracy, look
from datasets.reading import read_json, read_table
from datasets.splitting import FOLDS, copies_file, grouped_folds, overlap_file
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
    copies = copies[images.thumbnails[copies.i].any(axis=(1, 2))]  # one grey value, such as above a head, is nobody's
    out = images.table[["path", "label", "published_split", "patient"]].assign(transform="")
    conflict = _conflicts(out, copies)
    if reference is not None:
        found = links.link(images, reference)
        known = found.index[found.reference >= 0]
        slices = reference.table.iloc[found.reference[known]].set_axis(known)
        out = out.assign(patient=slices.patient.reindex(out.index).fillna(out.patient), transform=found["transform"])
        conflict[known] |= slices.label != out.label[known]
    member = components(len(out), copies, identical_pairs(out.patient), alike_pairs(images))
    out = out.assign(group=_names(out.path, member), label_conflict=conflict.astype(int))
    kept = {} if before is None else dict(zip(before.group, before.fold.astype(int), strict=True))
    out["fold"] = grouped_folds(out.label.to_numpy(), out.group.to_numpy(), folds, 0, kept)
    return out[SPLIT_COLUMNS]


def _conflicts(table: pd.DataFrame, copies: pd.DataFrame) -> pd.Series:
    """Whether an image has a duplicate with another label."""
    return table.label.groupby(components(len(table), copies)).transform("nunique") > 1


def _names(paths: pd.Series, member: np.ndarray) -> pd.Series:
    """The name of the group of each image: short, and of its first path in alphabetical order."""
    first = paths.groupby(member).transform("min")
    return first.map(lambda path: "g" + hashlib.sha256(path.encode()).hexdigest()[:10])


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
        return pd.DataFrame({end: shown[pairs[end].to_numpy(int)] for end in ("i", "j")})  # also of no pairs

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
        "most rows that move when a group splits in two": _most_moved(table, keep=True),
        "most rows that move then without the table made before": _most_moved(table, keep=False),
        **{f"fold {fold}, {label}": n for (fold, label), n in table.groupby(["fold", "label"]).size().items()},
    }
    return {name: int(count) for name, count in counts.items()}


def alike_across_folds(images: Thumbnails, table: pd.DataFrame) -> np.ndarray:
    """Rows that have an image alike in another fold, found by brute force: none, as long as `table` is of `images`."""
    pairs, fold = alike_pairs(images), table.fold.to_numpy()
    return np.unique(pairs[fold[pairs.i] != fold[pairs.j]])


def _most_moved(table: pd.DataFrame, keep: bool) -> int:
    """How many rows get another fold when one of the 40 largest groups falls into two halves, at most; `keep`: whether
    all other groups keep theirs."""
    labels, groups = table.label.to_numpy(), table.group.to_numpy(dtype=object)
    fold, most = table.fold.to_numpy(), 0
    kept = dict(zip(table.group, table.fold, strict=True)) if keep else {}
    for name in table.group.value_counts().index[:40]:
        halved, rows = groups.copy(), np.flatnonzero(groups == name)
        halved[rows[len(rows) // 2 :]] = f"{name}, second half"
        most = max(most, int((grouped_folds(labels, halved, table.fold.nunique(), 0, kept) != fold).sum()))
    return most


def curate_own(own: str, others: Sequence[str]) -> None:
    """Find which images the reader's `own` set and others share, and write them beside `own`."""
    if not others:
        require_published(own)
    for name in (own, *others):
        index.require(name)  # before the images of the others are looked at
    for other in others:
        images = [look(name) for name in (own, other)]
        tables = [index.read_splits(name, of.table) for name, of in zip((own, other), images, strict=True)]
        shared = links.overlap(*images, *(of.table if t is None else t for t, of in zip(tables, images, strict=True)))
        write(shared, catalog.dataset_dir(own) / overlap_file(own, other))
        print(f"{own} and {other}, images shared\n{shared.groupby(['dataset', 'kind']).size().to_string()}")


def curate_sets(names: Sequence[str], to_write: bool) -> None:
    """Curate published sets and print the facts; `to_write`: also the tables and `facts.json` in `datasets/splits/`."""
    path = index.SPLITS / "facts.json"
    known = read_json(path, "restore it from git") if path.is_file() else {}
    needed = list(dict.fromkeys(names))
    linked = [name for name in names if name != links.REFERENCE and not links.names_patients(name)]
    if linked and links.REFERENCE not in names:
        needed.append(links.REFERENCE)
    for name in needed:
        index.require(name)  # before the images of the others are looked at
    images = {name: look(name) for name in needed}
    tables = {}
    for name in names:
        file, dataset = index.SPLITS / f"{name}.csv", catalog.get(name)
        before = read_table(file, needs=["group", "fold"]) if file.is_file() else None
        reference = images[links.REFERENCE] if name in linked else None
        table = tables[name] = curate(images[name], reference, before, dataset.folds)
        copies = links.copy_pairs(images[name], table)
        known[name] = facts(images[name], table) | links.copy_facts(copies)
        protocols = ["patient"]
        if published := table.published_split.eq("test").any():
            protocols.insert(0, "published")
        elif not links.names_patients(name):
            protocols.insert(0, "random")
        for protocol in [] if dataset.test_only or len(dataset.classes) == 1 else protocols:
            share = accuracy(images[name], table, protocol)
            known[name][f"1-NN on thumbnails, {protocol} split, accuracy"] = round(share, 4)
        if to_write:
            write(table, file)
            if published:
                kept = s0_cleaning(images[name])
                write(table[["path"]].drop(index=kept), index.SPLITS / f"s0/{name}.csv")
            (index.SPLITS / copies_file(name)).unlink(missing_ok=True)  # of folds made before
            if len(copies):
                write(copies, index.SPLITS / copies_file(name))
        print(f"\n{name}\n{pd.Series(known[name], dtype=object).to_string()}", flush=True)
    for a, b in itertools.combinations(names, 2):
        shared = links.overlap(images[a], images[b], tables[a], tables[b])
        counts = shared.groupby(["dataset", "kind"]).size()
        of_pair = {f"{name}: {kind}": int(count) for (name, kind), count in counts.items()}
        known[f"{a} and {b}"] = of_pair | links.copies_left(images[a], images[b], shared)
        print(f"\n{a} and {b}, images shared\n{pd.Series(known[f'{a} and {b}']).to_string()}", flush=True)
        if to_write:
            write(shared, index.SPLITS / overlap_file(a, b))
    if to_write:
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
