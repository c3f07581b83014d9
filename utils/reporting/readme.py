"""Writes the README's tables and pictures from `saved_metrics/`: `make tables`, after every new run."""

import re
from pathlib import Path

import pandas as pd

from datasets.catalog import REPO
from utils import ablation, figures, gates
from utils.pooling import pool_folds
from utils.runs import Evidence, load_evidence, load_history
from utils.tables import BLOCKS, pairs

BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, cells as they are; a line that says so where nothing was run."""
    if table.empty:
        return "*not run yet*\n"
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str, evidence: Evidence) -> str:
    """README `text` with every block `<!-- table NAME -->` made anew, NAME from `tables.BLOCKS`."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{markdown(BLOCKS[found[2]](evidence))}\n{found[3]}", text)


def main(root: Path = REPO) -> None:
    """Pool finished patient folds, then write tables and pictures."""
    for path in pool_folds(root / "saved_metrics"):
        print(f"pooled: {path.name}")
    evidence = load_evidence(root / "saved_metrics")
    (root / "README.md").write_text(filled((root / "README.md").read_text(), evidence))
    (root / "docs").mkdir(exist_ok=True)
    figures.against_patients(evidence.classification).savefig(root / "docs/results.png", dpi=110)
    if epochs := gates.histories(evidence.segmentation, evidence.folder):
        figures.gate_spread(epochs).savefig(root / "docs/gates.png", dpi=90)
    for pair in [p for p in pairs(evidence) if p["warm"]["run"]["fold"] is not None][:1]:
        histories = {start: load_history(record, evidence.folder) for start, record in pair.items()}
        figures.convergence(histories).savefig(root / "docs/head_start.png", dpi=90)
    for runs in ablation.budgets(evidence.multitask):
        figures.gradients(ablation.histories(runs, evidence.folder)).savefig(root / "docs/balancing.png", dpi=90)


if __name__ == "__main__":
    main()
