"""The command `python -m datasets.curation NAME… --write`, which makes the tables in `datasets/splits/`."""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence

import pandas as pd

from datasets.catalog import DataError, get
from datasets.curation import neighbours, relatives
from datasets.curation.duplicates import s0_cleaning
from datasets.curation.links import REFERENCE, names_patients, overlap
from datasets.curation.split_table import curate, facts
from datasets.curation.thumbnails import look
from datasets.splitting import overlap_file
from datasets.store import index


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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: curate the named sets, alone and pair by pair; print the facts, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m datasets.curation", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="brain-tumor-mri, sartaj, cheng, phantom, …")
    parser.add_argument("--write", action="store_true", help="write the tables and facts.json to datasets/splits/")
    args = parser.parse_args(argv)
    path = index.SPLITS / "facts.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    try:
        linked = [name for name in args.datasets if name != REFERENCE and not names_patients(name)]
        linked = [] if any(get(name).layout == "own" for name in args.datasets) else linked
        needed = [*args.datasets, *([REFERENCE] if linked else [])]
        for name in needed:
            index.require(name)  # before the images of the others are looked at
        if own := [name for name in args.datasets if get(name).layout == "own"]:
            for other in set(args.datasets) - set(own):
                print(f"{own[0]} and {other}, images shared\n{relatives.write_overlap(own[0], other).to_string()}")
            return 0
        images = {name: look(name, progress=sys.stderr.isatty()) for name in dict.fromkeys(needed)}
        tables, alike = {}, {name: get(name).alike for name in args.datasets}
        for name in args.datasets:
            reference = images[REFERENCE] if name in linked else None
            tables[name] = curate(images[name], reference, before=_before(name), alike=alike[name])
            published = tables[name].published_split.eq("test").any()
            if args.write:
                write(tables[name], f"{name}.csv")
                if published:
                    write(tables[name][["path"]].drop(index=s0_cleaning(images[name])), f"s0/{name}.csv")
            known[name] = facts(images[name], tables[name], alike[name])
            for protocol in _protocols(name, published):
                share = neighbours.accuracy(images[name], protocol)
                known[name][f"1-NN on thumbnails, {protocol} split, accuracy"] = round(share, 4)
            print(f"\n{name}\n{pd.Series(known[name], dtype=object).to_string()}", flush=True)
        for a, b in itertools.combinations(args.datasets, 2):
            shared = overlap(images[a], images[b], tables[a], tables[b], alike[a], alike[b])
            known[f"{a} and {b}"] = {
                f"{name}: {kind}": int(count)
                for (name, kind), count in shared.groupby(["dataset", "kind"]).size().items()
            }
            print(f"\n{a} and {b}, images shared\n{pd.Series(known[f'{a} and {b}']).to_string()}", flush=True)
            if args.write:
                write(shared, overlap_file(a, b))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.write:
        path.write_text(json.dumps(known, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
