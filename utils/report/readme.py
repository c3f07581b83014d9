"""`make tables`, after every new run: pools finished folds, writes `runs.csv`, the README's table and its images."""

import re
import sys
from pathlib import Path

from datasets.catalog import REPO, DataError
from utils.files import write_atomically
from utils.report import figures
from utils.report.pooling import pool_folds
from utils.report.records import Evidence, load_evidence
from utils.report.tables import BLOCKS, all_runs
from utils.report.tables.common import markdown

BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def filled(text: str, evidence: Evidence) -> str:
    """`text` with every block `<!-- table NAME -->` made again, NAME from `tables.BLOCKS`."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{markdown(BLOCKS[found[2]](evidence))}\n\n{found[3]}", text)


def main(root: Path = REPO) -> None:
    """Pool finished patient folds, then write table and figure.

    Raises:
        DataError: a file of the evidence is damaged; then nothing is written.
    """
    if damaged := load_evidence(root / "saved_metrics").damaged:
        raise DataError(f"tables are made of whole evidence alone: {damaged[0]} ({len(damaged)} in all)")
    for path in pool_folds(root / "saved_metrics"):
        print(f"pooled: {path.parent.name}")
    evidence = load_evidence(root / "saved_metrics")
    write_atomically(root / "saved_metrics/runs.csv", all_runs(evidence).to_csv(index=False))
    write_atomically(root / "README.md", filled((root / "README.md").read_text(), evidence))
    (root / "docs").mkdir(exist_ok=True)
    figures.against_patients(evidence.runs).savefig(root / "docs/results.png", dpi=110)
    figures.house(evidence).savefig(root / "docs/house.png", dpi=110)


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        sys.exit(f"error: {error}")
