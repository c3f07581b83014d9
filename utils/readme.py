"""Writes the README's tables and picture from `saved_metrics/`: `make tables`, after every new run."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from datasets.catalog import REPO
from utils import figures, gates
from utils.pooling import pool_folds
from utils.runs import load_findings, load_runs
from utils.tables import BLOCKS, MASK_BLOCKS

BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are; a line that says so where nothing was run."""
    if table.empty:
        return "*not run yet*\n"
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str, records: Sequence[dict], findings: Sequence[dict], masks: Sequence[dict] = ()) -> str:
    """README `text` with every block `<!-- table NAME -->` made anew, NAME from `tables.BLOCKS` or `MASK_BLOCKS`.

    `records` are of classification, `masks` of segmentation.
    """

    def table(name: str) -> pd.DataFrame:
        return MASK_BLOCKS[name](masks) if name in MASK_BLOCKS else BLOCKS[name](records, findings)

    return BLOCK.sub(lambda found: f"{found[1]}\n{markdown(table(found[2]))}\n{found[3]}", text)


def main(root: Path = REPO) -> None:
    """Pool finished patient folds, then write tables and picture."""
    for path in pool_folds(root / "saved_metrics"):
        print(f"pooled: {path.name}")
    records, findings = load_runs(root / "saved_metrics"), load_findings(root / "saved_metrics/curation")
    masks = load_runs(root / "saved_metrics", "segmentation")
    (root / "README.md").write_text(filled((root / "README.md").read_text(), records, findings, masks))
    (root / "docs").mkdir(exist_ok=True)
    figures.against_patients(records).savefig(root / "docs/results.png", dpi=110)
    if epochs := gates.histories(masks, root / "saved_metrics"):
        figures.gate_spread(epochs).savefig(root / "docs/gates.png", dpi=90)


if __name__ == "__main__":
    main()
