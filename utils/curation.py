"""Who is in the test set twice: duplicates, near-duplicates and patients, within a set and between sets.

`thumbnails.look` reads the pictures, the finders below compare them, `python -m utils.curation` writes the
committed splits.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence

import faiss
import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets import catalog, store
from datasets.catalog import DataError
from datasets.protocols import FOLDS, grouped_folds, make_split, overlap_file
from datasets.views import TRANSFORMS
from utils.baselines import probabilities
from utils.evaluation import prediction_table
from utils.thumbnails import Pictures, join, look

REFERENCE = "cheng"  # the one set that names its patients; others are linked to it
NEAR_BITS, NEAR_CORRELATION = 4, 0.97
SPLIT_COLUMNS = ["path", "label", "published_split", "patient", "group", "transform", "label_conflict", "fold"]


def identical_pairs(keys: Sequence[str]) -> pd.DataFrame:
    """Rows `i` < `j` whose keys are equal, each row joined to the first of its kind."""
    first = pd.Series(range(len(keys))).groupby(np.asarray(keys, dtype=object)).transform("first").to_numpy(dtype=int)
    j = np.flatnonzero(first != np.arange(len(keys)))
    return pd.DataFrame({"i": first[j], "j": j})


def close_hashes(a: np.ndarray, b: np.ndarray, bits: int = NEAR_BITS) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with at most `bits` bits between the 64-bit hashes a[i] and b[j]; exact, nothing is sampled.

    faiss compares all pairs in compiled code: 4 times as fast as NumPy's bitwise_count on 100,000 hashes
    (benchmarks/curation.py).
    """
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(b).view(np.uint8).reshape(-1, 8))
    limits, _, j = index.range_search(np.ascontiguousarray(a).view(np.uint8).reshape(-1, 8), bits + 1)
    return np.repeat(np.arange(len(a)), np.diff(limits.astype(np.int64))), j


def near_pairs(pictures: Pictures, bits: int = NEAR_BITS, correlation: float = NEAR_CORRELATION) -> pd.DataFrame:
    """Pairs that look the same under one of the 8 transforms: pHash within `bits` and correlation of thumbnails.

    Returns a row a pair: `i` < `j`, `transform` (what turns j into i) and `correlation`, the best transform of each.
    """
    found = []
    for t, name in enumerate(TRANSFORMS):
        i, j = close_hashes(pictures.hashes[:, 0], pictures.hashes[:, t], bits)
        i, j = i[i < j], j[i < j]
        alike = np.einsum("nd,nd->n", pictures.turned("upright")[i], pictures.turned(name)[j])
        keep = alike >= correlation
        found.append(pd.DataFrame({"i": i[keep], "j": j[keep], "transform": name, "correlation": alike[keep]}))
    pairs = pd.concat(found, ignore_index=True).sort_values("correlation", ascending=False, kind="stable")
    return pairs.drop_duplicates(["i", "j"]).sort_values(["i", "j"], ignore_index=True)


def duplicate_pairs(pictures: Pictures) -> pd.DataFrame:
    """All duplicates, a row a pair: `i`, `j`, `kind` ("bytes", "pixels", "near", the strictest that holds)."""
    pairs = [
        identical_pairs(pictures.table.sha256).assign(kind="bytes", transform="upright"),
        identical_pairs(pictures.table.pixels).assign(kind="pixels", transform="upright"),
        near_pairs(pictures).assign(kind="near")[["i", "j", "kind", "transform"]],
    ]
    return pd.concat(pairs, ignore_index=True).drop_duplicates(["i", "j"], ignore_index=True)


def components(size: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Number of the connected component of each of `size` nodes when nodes i[k] and j[k] belong together."""
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def link(pictures: Pictures, reference: Pictures, correlation: float = NEAR_CORRELATION) -> pd.DataFrame:
    """The slice of `reference` that each picture shows, by correlation of thumbnails under the 8 transforms.

    Returns a row a picture: `reference` (row, or -1 where none reaches `correlation`), `correlation` of the best
    (linked or not) and `transform`, what was done to the reference to give the picture.
    """
    best = np.full(len(pictures), -1.0, np.float32)
    row = np.full(len(pictures), -1)
    transform = np.full(len(pictures), "", object)
    mine = torch.from_numpy(pictures.turned("upright"))
    for name in TRANSFORMS if len(reference) else ():
        other = torch.from_numpy(reference.turned(name)).T
        for start in range(0, len(pictures), 1024):  # bounds the memory: 1024 × reference floats at a time
            value, index = (v.numpy() for v in (mine[start : start + 1024] @ other).max(dim=1))
            better = np.flatnonzero(value > best[start : start + 1024])
            best[start + better], row[start + better] = value[better], index[better]
            transform[start + better] = name
    linked = best >= correlation
    return pd.DataFrame(
        {"reference": np.where(linked, row, -1), "correlation": best, "transform": np.where(linked, transform, "")}
    )


def s0_cleaning(pictures: Pictures) -> np.ndarray:
    """Rows that S0's rule keeps: one picture a pHash, both splits together, class ignored, train before test."""
    order = np.argsort(pictures.table.published_split.eq("test"), kind="stable")
    hashes = pd.Series(pictures.hashes[order, 0])
    return np.sort(order[~hashes.duplicated().to_numpy()])


def curate(pictures: Pictures, reference: Pictures | None = None, seed: int = 0) -> pd.DataFrame:
    """The split table of one data set, in manifest order, with `SPLIT_COLUMNS`.

    `patient` is the manifest's own, or that of the `reference` slice which the picture shows. `group` joins what may
    not be separated: pictures of one patient, duplicates, near-duplicates, and whatever these share. `transform`
    says how the publisher turned the reference slice. `label_conflict` is 1 where duplicates, or the picture and its
    reference slice, carry different labels.
    """
    table, pairs = pictures.table, duplicate_pairs(pictures)
    patient, transform = table.patient.to_numpy(dtype=object), np.full(len(table), "", object)
    conflict = np.zeros(len(table), bool)
    if reference is not None:
        links = link(pictures, reference)
        known = links.reference.to_numpy() >= 0
        slices = reference.table.iloc[links.reference[known]]
        patient[known], transform[known] = slices.patient, links["transform"][known]
        conflict[known] = slices.label.to_numpy() != table.label.to_numpy()[known]
    same_patient = identical_pairs([p or f"row {row}" for row, p in enumerate(patient)])
    joined = pd.concat([pairs[["i", "j"]], same_patient])
    group = components(len(table), joined.i.to_numpy(dtype=int), joined.j.to_numpy(dtype=int))
    twins = components(len(table), pairs.i.to_numpy(dtype=int), pairs.j.to_numpy(dtype=int))
    labels = table.label.groupby(twins).transform("nunique").to_numpy()
    out = table[["path", "label", "published_split"]].assign(
        patient=patient,
        group=[f"g{g:05d}" for g in group],
        transform=transform,
        label_conflict=(conflict | (labels > 1)).astype(int),
        fold=grouped_folds(table.label.to_numpy(), group, FOLDS, seed),
    )
    return out[SPLIT_COLUMNS]


def facts(pictures: Pictures, table: pd.DataFrame) -> dict[str, int]:
    """What a data set's split table says in numbers: links, leakage, conflicts and S0's own count of duplicates."""
    test, linked = table.published_split.eq("test"), table["transform"].ne("")
    in_training = table.patient.isin(set(table.patient[~test & table.patient.ne("")]))
    wrong = linked & table.label_conflict.eq(1)
    sha, pixels = pictures.table.sha256, pictures.table.pixels
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
        "removed by S0's rule": len(table) - len(s0_cleaning(pictures)),
        "groups": table.group.nunique(),
        f"images alike one in another fold beyond {NEAR_BITS} bits": len(alike_across_folds(pictures, table)),
    }


def alike_across_folds(pictures: Pictures, table: pd.DataFrame, bits: int = 12) -> np.ndarray:
    """Rows that look like a picture in another fold, up to `bits` apart: what the rule of `near_pairs` lets through.

    Pictures of one slice with another contrast can be more than 4 bits apart. The folds keep the stricter rule; this
    says how much it costs.
    """
    pairs = near_pairs(pictures, bits)
    fold = table.fold.to_numpy()
    crossing = pairs[fold[pairs.i] != fold[pairs.j]]
    return np.unique(np.concatenate([crossing.i, crossing.j])).astype(int)


def overlap(a: Pictures, b: Pictures, table_a: pd.DataFrame, table_b: pd.DataFrame) -> pd.DataFrame:
    """Images of two sets that have a relative in the other one, a row an image: `dataset`, `path`, `kind`.

    `kind` is the strictest that holds: "bytes", "pixels", "near", "patient", or "group" for an image that is joined
    to the other set only through its group. `table_a` and `table_b` are the split tables from `curate`.
    """
    both = join(a, b)
    where = np.repeat([0, 1], [len(a), len(b)])
    pairs = duplicate_pairs(both)
    # identical_pairs names only the first of its kind, which may lie in the same set: all of one key belong together
    names = {"bytes": both.table.sha256, "pixels": both.table.pixels}
    names["patient"] = pd.concat([table_a.patient, table_b.patient], ignore_index=True)
    links = [pairs[["i", "j"]], identical_pairs([p or f"row {row}" for row, p in enumerate(names["patient"])])]
    joined = pd.concat(links)
    names["group"] = pd.Series(components(len(both), joined.i.to_numpy(int), joined.j.to_numpy(int)))
    crossing = pairs[where[pairs.i] != where[pairs.j]]
    near = np.zeros(len(both), bool)
    near[np.concatenate([crossing.i, crossing.j]).astype(int)] = True
    in_both = {kind: pd.Series(where).groupby(key.to_numpy()).transform("nunique").eq(2) for kind, key in names.items()}
    in_both["patient"] &= names["patient"].ne("")
    in_both = {"bytes": in_both["bytes"], "pixels": in_both["pixels"], "near": pd.Series(near)} | in_both
    kind = np.select([held.to_numpy() for held in in_both.values()], list(in_both), "")
    return both.table[["dataset", "path"]].assign(kind=kind)[kind != ""]


def wrong_labels(table: pd.DataFrame) -> np.ndarray:
    """Rows whose label is not the commonest among their patient's pictures: nobody has two kinds of tumour here.

    Args:
        table: `label` and `patient` of each picture; a picture without patient is never suspected, and where two
            labels are equally common in a patient, all of his pictures are.
    """
    known = table[table.patient.ne("")]
    counts = known.groupby(["patient", "label"]).size().rename("n").reset_index()
    most = counts[counts.n == counts.groupby("patient").n.transform("max")]
    most = most[~most.patient.duplicated(keep=False)].set_index("patient").label
    return known.index[known.label != known.patient.map(most)].to_numpy()


def memoriser(pictures: Pictures, protocol: str) -> tuple[pd.DataFrame, np.ndarray]:
    """What a nearest neighbour that has learned nothing scores: the label of the most correlated training picture.

    Args:
        pictures: of one whole data set, in manifest order, as the publisher framed them.
        protocol: "published", or "patient" for the five folds together.

    Returns:
        the prediction table (`evaluation.prediction_table`), and of each row whether training holds its group.
    """
    name = pictures.table.dataset.iloc[0]
    classes = catalog.get(name).classes
    pixels = pictures.turned("upright")  # of unit length: the nearest is the most correlated
    labels = pictures.table.label.map({c: i for i, c in enumerate(classes)}).to_numpy()
    tables, seen = [], []
    for fold in range(FOLDS) if protocol == "patient" else (0,):
        split = make_split(name, protocol, fold)
        guess = probabilities("1-NN", pixels[split.known], labels[split.known], pixels[split.test], len(classes))
        tables.append(prediction_table(name, split.test, split.test_groups, classes, guess))
        seen.append(split.seen)
    return pd.concat(tables, ignore_index=True), np.concatenate(seen)


def relations(pictures: Pictures) -> pd.DataFrame:
    """Pairs of duplicates counted by `kind`: within a class, between classes, and between the published parts."""
    pairs, table = duplicate_pairs(pictures), pictures.table
    label, part = table.label.to_numpy(), table.published_split.to_numpy()
    flags = pd.DataFrame(
        {
            "kind": pairs.kind,
            "pairs": True,
            "within a class": label[pairs.i] == label[pairs.j],
            "between classes": label[pairs.i] != label[pairs.j],
            "between the parts": part[pairs.i] != part[pairs.j],
        }
    )
    kinds = pd.CategoricalIndex(["bytes", "pixels", "near"], name="kind")
    return flags.groupby("kind").sum().reindex(kinds, fill_value=0).astype(int)


def write(table: pd.DataFrame, path: str) -> None:
    """Write a table under `datasets/splits/`."""
    (store.SPLITS / path).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(store.SPLITS / path, index=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: curate the named sets, alone and pair by pair; print the facts, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m utils.curation", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="brain-tumor-mri, sartaj, cheng, phantom")
    parser.add_argument("--write", action="store_true", help="write the tables and facts.json to datasets/splits/")
    words = parser.parse_args(argv)
    path = store.SPLITS / "facts.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    try:
        linked = [name for name in words.datasets if name != REFERENCE and not names_patients(name)]
        needed = [*words.datasets, *([REFERENCE] if linked else [])]
        pictures = {name: look(name, progress=sys.stderr.isatty()) for name in dict.fromkeys(needed)}
        tables = {}
        for name in words.datasets:
            tables[name] = curate(pictures[name], pictures[REFERENCE] if name in linked else None)
            published = tables[name].published_split.eq("test").any()
            if words.write:
                write(tables[name], f"{name}.csv")
                if published:
                    write(tables[name][["path"]].drop(index=s0_cleaning(pictures[name])), f"s0/{name}.csv")
            known[name] = facts(pictures[name], tables[name])
            for protocol in ["published", "patient"] if published else ["patient"]:
                guessed, _ = memoriser(pictures[name], protocol)
                share = (guessed.label == guessed.predicted).mean()
                known[name][f"1-NN on thumbnails, {protocol} split, accuracy"] = round(float(share), 4)
            print(f"\n{name}\n{pd.Series(known[name], dtype=object).to_string()}", flush=True)
        for a, b in itertools.combinations(words.datasets, 2):
            shared = overlap(pictures[a], pictures[b], tables[a], tables[b])
            known[f"{a} and {b}"] = {
                f"{name}: {kind}": int(count)
                for (name, kind), count in shared.groupby(["dataset", "kind"]).size().items()
            }
            print(f"\n{a} and {b}, images shared\n{pd.Series(known[f'{a} and {b}']).to_string()}", flush=True)
            if words.write:
                write(shared, overlap_file(a, b))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if words.write:
        path.write_text(json.dumps(known, indent=1) + "\n")
    return 0


def names_patients(name: str) -> bool:
    """Whether the publisher of a data set says who is on its images."""
    return bool(store.read_manifest(name).patient.ne("").all())


if __name__ == "__main__":
    sys.exit(main())
