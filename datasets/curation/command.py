"""What `python -m datasets.curation` does: curates sets alone and pair by pair, prints facts, writes tables."""

import itertools
import json
import sys
from collections.abc import Sequence

import pandas as pd

from datasets import catalog
from datasets.catalog import DataError, get
from datasets.curation import copies, neighbours, relatives
from datasets.curation.duplicates import s0_cleaning
from datasets.curation.links import REFERENCE, names_patients, overlap
from datasets.curation.split_table import curate, facts
from datasets.curation.thumbnails import look
from datasets.reading import read_json
from datasets.splitting import copies_file, overlap_file
from datasets.store import index, manifest, summary


def write(table: pd.DataFrame, path: str) -> None:
    """Write a table under `datasets/splits/`."""
    (index.SPLITS / path).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(index.SPLITS / path, index=False)


def _before(name: str) -> pd.DataFrame | None:
    """The table that stands under `datasets/splits/` now."""
    path = index.SPLITS / f"{name}.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else None


def _protocols(name: str, published: bool) -> list[str]:
    """Protocols under which the nearest neighbour may be asked."""
    if get(name).test_only:
        return []
    beside = ["published"] if published else [] if names_patients(name) else ["random"]
    return [*beside, "patient"]


def _curated_before(name: str) -> str:
    """What a reader's own set holds, which was curated when it was brought in, and what else can be asked of it."""
    log = manifest.read_log(catalog.dataset_dir(name)) or {}
    lost = f"log.json does not vouch for it; run: python datasets/download.py {name} --check"
    holds = f"it holds {summary.sentence(log['holds'])}\n{log['relatives']}" if "holds" in log else lost
    return (
        f"{name} was curated when it was brought in: {holds}\n"
        f"Images that it shares with another set: python -m datasets.curation {name} brain-tumor-mri"
    )


def curate_sets(names: Sequence[str], to_write: bool) -> int:
    """Curate the named sets and print the facts; `to_write`: also the tables and `facts.json` in `datasets/splits/`.

    Returns the exit code.
    """
    path = index.SPLITS / "facts.json"
    known = read_json(path, "restore it from git") if path.is_file() else {}
    try:
        linked = [name for name in names if name != REFERENCE and not names_patients(name)]
        linked = [] if any(get(name).layout == "own" for name in names) else linked
        needed = [*names, *([REFERENCE] if linked else [])]
        for name in needed:
            index.require(name)  # before the images of the others are looked at
        if own := [name for name in names if get(name).layout == "own"]:
            others = [name for name in dict.fromkeys(names) if name not in own]
            for other in others:
                print(f"{own[0]} and {other}, images shared\n{relatives.write_overlap(own[0], other).to_string()}")
            if not others:
                print(_curated_before(own[0]))
            return 0
        images = {name: look(name, progress=sys.stderr.isatty()) for name in dict.fromkeys(needed)}
        tables, alike = {}, {name: get(name).alike for name in names}
        for name in names:
            reference = images[REFERENCE] if name in linked else None
            tables[name] = curate(
                images[name], reference, before=_before(name), alike=alike[name], folds=get(name).folds
            )
            published = tables[name].published_split.eq("test").any()
            if to_write:
                write(tables[name], f"{name}.csv")
                if published:
                    write(tables[name][["path"]].drop(index=s0_cleaning(images[name])), f"s0/{name}.csv")
            missed = copies.copy_pairs(images[name], tables[name])
            if to_write and len(missed):
                write(missed, copies_file(name))
            elif to_write:
                (index.SPLITS / copies_file(name)).unlink(missing_ok=True)  # of folds made before
            known[name] = facts(images[name], tables[name], alike[name]) | copies.copy_facts(missed)
            for protocol in _protocols(name, published):
                share = neighbours.accuracy(images[name], tables[name], protocol)
                known[name][f"1-NN on thumbnails, {protocol} split, accuracy"] = round(share, 4)
            print(f"\n{name}\n{pd.Series(known[name], dtype=object).to_string()}", flush=True)
        for a, b in itertools.combinations(names, 2):
            shared = overlap(images[a], images[b], tables[a], tables[b], alike[a], alike[b])
            known[f"{a} and {b}"] = {
                f"{name}: {kind}": int(count)
                for (name, kind), count in shared.groupby(["dataset", "kind"]).size().items()
            } | copies.copies_left(images[a], images[b], shared)
            print(f"\n{a} and {b}, images shared\n{pd.Series(known[f'{a} and {b}']).to_string()}", flush=True)
            if to_write:
                write(shared, overlap_file(a, b))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if to_write:
        path.write_text(json.dumps(known, indent=1) + "\n")
    return 0
