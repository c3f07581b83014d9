"""The command line `python -m datasets.curation NAME… --write`, which makes the tables in `datasets/splits/`."""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import catalog
from datasets.catalog import DataError

if TYPE_CHECKING:
    import pandas as pd


def main(argv: Sequence[str] | None = None) -> int:
    """Curate the named sets, alone and pair by pair; print the facts, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m datasets.curation", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="brain-tumor-mri, sartaj, cheng, phantom, …")
    parser.add_argument("--write", action="store_true", help="write the tables and facts.json to datasets/splits/")
    args = parser.parse_args(argv)
    try:
        own = [name for name in args.datasets if catalog.get(name).layout == "own"]
        if own:
            curate_own(own[0], [name for name in dict.fromkeys(args.datasets) if name not in own])
        else:
            curate_sets(args.datasets, args.write)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def curate_own(own: str, others: Sequence[str]) -> None:
    """Find which images the reader's `own` set and others share, and write them beside `own`."""
    from datasets.curation.links import overlap
    from datasets.curation.thumbnails import look
    from datasets.splitting import overlap_file
    from datasets.store import index, manifest

    for name in (own, *others):
        index.require(name)  # before the images of the others are looked at
    for other in others:
        images = [look(name, progress=sys.stderr.isatty()) for name in (own, other)]
        tables = [index.read_splits(name, of.table) for name, of in zip((own, other), images, strict=True)]
        shared = overlap(*images, *(of.table if t is None else t for t, of in zip(tables, images, strict=True)))
        write(shared, catalog.dataset_dir(own) / overlap_file(own, other))
        print(f"{own} and {other}, images shared\n{shared.groupby(['dataset', 'kind']).size().to_string()}")
    if not others:
        log = manifest.read_log(catalog.dataset_dir(own)) or {}
        holds = f"log.json does not vouch for it; run: python datasets/download.py {own} --check"
        if "holds" in log:
            holds = f"it holds {manifest.sentence(log['holds'])}\n{log['relatives']}"
        print(f"{own} was curated when it was brought in: {holds}")
        print(f"Images that it shares with another set: python -m datasets.curation {own} brain-tumor-mri")


def curate_sets(names: Sequence[str], to_write: bool) -> None:
    """Curate published sets and print the facts; `to_write`: also the tables and `facts.json` in `datasets/splits/`."""
    import pandas as pd  # here, with all that brings torch and SciPy, for which --help need not wait

    from datasets.curation import duplicates, links, split_table
    from datasets.curation.thumbnails import accuracy, look
    from datasets.reading import read_json, read_table
    from datasets.splitting import copies_file, overlap_file
    from datasets.store import index

    path = index.SPLITS / "facts.json"
    known = read_json(path, "restore it from git") if path.is_file() else {}
    needed = list(dict.fromkeys(names))
    linked = [name for name in names if name != links.REFERENCE and not links.names_patients(name)]
    if linked and links.REFERENCE not in names:
        needed.append(links.REFERENCE)
    for name in needed:
        index.require(name)  # before the images of the others are looked at
    images = {name: look(name, progress=sys.stderr.isatty()) for name in needed}
    tables = {}
    for name in names:
        file, dataset = index.SPLITS / f"{name}.csv", catalog.get(name)
        before = read_table(file, needs=["group", "fold"]) if file.is_file() else None
        reference = images[links.REFERENCE] if name in linked else None
        table = tables[name] = split_table.curate(images[name], reference, before, dataset.folds)
        copies = links.copy_pairs(images[name], table)
        known[name] = split_table.facts(images[name], table) | links.copy_facts(copies)
        protocols = ["patient"]
        if published := table.published_split.eq("test").any():
            protocols.insert(0, "published")
        elif not links.names_patients(name):
            protocols.insert(0, "random")
        for protocol in [] if dataset.test_only else protocols:
            share = accuracy(images[name], table, protocol)
            known[name][f"1-NN on thumbnails, {protocol} split, accuracy"] = round(share, 4)
        if to_write:
            write(table, file)
            if published:
                kept = duplicates.s0_cleaning(images[name])
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
        path.write_text(json.dumps(known, indent=1) + "\n")


def write(table: "pd.DataFrame", path: Path) -> None:
    """Write a table, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


if __name__ == "__main__":
    sys.exit(main())
