"""Writes the README's table and picture from `saved_metrics/`: `make tables`, after every new run."""

import re
from pathlib import Path

import pandas as pd

from datasets.catalog import REPO
from utils import figures
from utils.runs import load_runs, results_table

BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are."""
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str, records: list[dict]) -> str:
    """README `text` with the block between the two `results` comments made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{markdown(results_table(records))}\n{found[2]}", text)


def main(root: Path = REPO) -> None:
    records = load_runs(root / "saved_metrics")
    (root / "README.md").write_text(filled((root / "README.md").read_text(), records))
    (root / "docs").mkdir(exist_ok=True)
    figures.compared(records).savefig(root / "docs/results.png", dpi=110)


if __name__ == "__main__":
    main()
