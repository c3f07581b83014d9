"""What chapters say of real data is what the committed records give now: no output is older than its evidence."""

import html
import re
from functools import cache

import nbformat
import pytest

from datasets.catalog import REPO
from utils.report import claims
from utils.report.records import load_evidence
from utils.report.tables import BLOCKS

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
SENTENCE = re.compile(r"Markdown\(claims\.(\w+)\(evidence\)\)$")
TABLE = re.compile(r'^BLOCKS\["(\w+)"\]\(evidence\)$')


@pytest.fixture(scope="module")
def evidence():
    return load_evidence(REPO / "saved_metrics")


@pytest.fixture(scope="module")
def sentence(evidence):
    """Name of a claim → what it says; several chapters show the same one."""
    return cache(lambda name: getattr(claims, name)(evidence))


def shown(path, pattern: re.Pattern, kind: str):
    """Name and output of each code cell whose source ends as `pattern` says."""
    for cell in nbformat.read(path, as_version=4).cells:
        found = pattern.search(cell.source.strip()) if cell.cell_type == "code" else None
        if found:
            (output,) = (o["data"][kind] for o in cell.outputs if kind in o.get("data", {}))
            yield found[1], output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_sentences_are_those_of_the_present_records(path, sentence):
    for name, output in shown(path, SENTENCE, "text/markdown"):
        assert output == sentence(name), f"execute it again: python -m utils.chapters {path.name}"


def test_tables_are_those_of_the_present_records(evidence):
    found = dict(shown(REPO / "notebooks" / "8_results.ipynb", TABLE, "text/html"))
    assert len(found) > 20
    for name, output in found.items():
        cells = {str(value) for value in BLOCKS[name](evidence).to_numpy().ravel() if isinstance(value, str)}
        missing = sorted(cell for cell in cells if html.escape(cell, quote=False) not in output)
        assert not missing, f"{name}: python -m utils.chapters 8_results.ipynb"
