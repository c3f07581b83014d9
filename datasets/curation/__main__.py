"""The command line `python -m datasets.curation NAME… --write`, which makes the tables in `datasets/splits/`."""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Curate the named sets, alone and pair by pair; print the facts, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m datasets.curation", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="brain-tumor-mri, sartaj, cheng, phantom, …")
    parser.add_argument("--write", action="store_true", help="write the tables and facts.json to datasets/splits/")
    args = parser.parse_args(argv)
    from datasets.curation.command import curate_sets  # with torch and SciPy, for which --help need not wait

    return curate_sets(args.datasets, args.write)


if __name__ == "__main__":
    sys.exit(main())
