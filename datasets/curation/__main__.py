"""The command line `python -m datasets.curation NAME… --write`, which makes the tables in `datasets/splits/`."""

import argparse
import sys
from collections.abc import Sequence

from datasets import catalog
from datasets.commands import errors_in_one_line


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Curate the named sets, alone and pair by pair; print the facts, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m datasets.curation", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="brain-tumor-mri, sartaj, cheng, phantom, …")
    parser.add_argument("--write", action="store_true", help="write the tables and facts.json to datasets/splits/")
    args = parser.parse_args(argv)
    from datasets.curation import split_table  # with SciPy and faiss, for which --help need not wait

    own = [name for name in args.datasets if catalog.get(name).layout == "own"]
    if own:
        split_table.curate_own(own[0], [name for name in dict.fromkeys(args.datasets) if name not in own])
    else:
        split_table.curate_sets(args.datasets, args.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
