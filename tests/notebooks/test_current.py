"""What chapters say of real data is what the committed records give now: no output is older than its evidence."""

import re

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from datasets.catalog import REPO

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"[\d.,–+-]*\d")


def from_records(path) -> list[nbformat.NotebookNode]:
    """The cells of a chapter that read nothing but the records, in order, those that import what they need first."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if "records" in cell.metadata.get("tags", [])]


def shown(cell: nbformat.NotebookNode) -> str:
    """The text or table that a cell shows in the committed notebook, "" where it shows none."""
    data = [output["data"] for output in cell.outputs if "data" in output]
    return "".join(one.get("text/markdown", one.get("text/html", "")) for one in data)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_read_from_the_records_is_what_they_give_now(path, monkeypatch):
    monkeypatch.delenv("BRAIN_MRI_OUTPUT", raising=False)
    shell, compared = InteractiveShell(), 0
    shell.push({"evidence_folder": ""})
    for cell in from_records(path):
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        done = shell.run_cell(source)
        done.raise_error()
        result = done.result
        if result is None or not shown(cell):
            continue
        if isinstance(result, pd.DataFrame):
            cells = {str(value) for value in result.to_numpy().ravel() if isinstance(value, str)}
            now, then = set(NUMBER.findall(" ".join(cells))), set(NUMBER.findall(shown(cell)))
            assert now <= then, f"python -m utils.chapters {path.name}: {sorted(now - then)[:5]}"
        else:
            assert result.data == shown(cell), f"execute it again: python -m utils.chapters {path.name}"
        compared += 1
    assert compared
