"""`python -m utils.report.reported SOURCE`: the table of networks of S1 or S4, reported beside ours, and its curves.

With `--folder DIR` the table is written there, and of every network trained here its curves over the epochs and the ROC
curves of its test set. Jobs `s1.job` and `s4.job` train the networks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from datasets.catalog import lookup
from datasets.labels import classes_of
from utils.commands import errors_in_one_line
from utils.files import write_atomically
from utils.report import figures
from utils.report.records import HISTORY, Evidence, load_evidence
from utils.report.tables import BLOCKS
from utils.report.tables.common import markdown
from utils.report.tables.reported import of_source

SOURCES = {source: BLOCKS[source] for source in ("s1", "s4")}


def _draw(evidence: Evidence, source: str, folder: Path) -> None:
    runs = of_source(evidence, source)
    for run in runs[runs.pooled.isna()].itertuples():
        drawn = {"roc": figures.roc(evidence.predictions(run.id), classes_of(run.dataset, run.target))}
        if (evidence.path(run.id) / HISTORY).is_file():
            drawn["curves"] = figures.curves(evidence.history(run.id), run.epoch_kept)
        for name, figure in drawn.items():
            figure.savefig(folder / f"{run.id}-{name}.png", dpi=110, bbox_inches="tight")
            plt.close(figure)
            print(folder / f"{run.id}-{name}.png")


@errors_in_one_line(OSError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: print the table, or write it with its figures."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.reported", description=main.__doc__)
    parser.add_argument("source", help=" or ".join(SOURCES))
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write table, curves and ROC curves there")
    args = parser.parse_args(argv)
    evidence = load_evidence()
    table = markdown(lookup(SOURCES, args.source, "source of such a table")(evidence))
    print(table)
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(args.folder / f"{args.source}.md", table + "\n")
        _draw(evidence, args.source, args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
