"""Notebooks are committed with tagged parameters, run from top to bottom, with outputs and no patient's image."""

import ast
import re

import nbformat
import pytest

from datasets.catalog import REPO
from utils.chapters import machine_paths

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 25  # lines beside imports
LONGEST_SENTENCE = 28  # of a cell that tells what the records say
IMPORT = re.compile(r"(from|import) ")
OF_RECORDS = "8_results"  # shows what was run, on no data of its own


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    """Cells of each chapter."""
    return nbformat.read(request.param, as_version=4).cells


@pytest.fixture
def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def test_one_parameters_cell_with_the_quick_phantom_as_default(code, request):
    (tagged,) = (c.source for c in code if "parameters" in c.metadata.get("tags", []))
    if OF_RECORDS not in request.node.name:
        assert "quick = True" in tagged
        assert 'dataset = "phantom"' in tagged, "a committed output may show the phantom only"


def test_committed_after_one_run_from_top_to_bottom_without_warnings_or_paths(cells, code):
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no figure among the outputs"
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not machine_paths({"cells": cells})
    assert {name for c in cells for name in c.metadata} <= {"tags"}, "papermill's stay outside: make chapters"
    assert {tag for c in cells for tag in c.metadata.get("tags", [])} <= {"parameters", "summary", "records"}


def test_results_are_asserted_and_functions_live_in_modules(code):
    sources = [c.source for c in code if "parameters" not in c.metadata.get("tags", [])]
    assert any("assert " in source for source in sources)
    records = [c.source for c in code if "records" in c.metadata.get("tags", [])]
    written = [[line for line in source.splitlines() if not IMPORT.match(line)] for source in {*sources} - {*records}]
    assert not [lines for lines in written if len(lines) > LONGEST_CELL]
    assert not [source for source in records if len(source.splitlines()) > LONGEST_SENTENCE]
    lines = ["\n".join(line for line in source.splitlines() if not line.startswith("%")) for source in sources]
    nodes = [node for source in lines for node in ast.walk(ast.parse(source))]
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    assert not [n for n in calls if getattr(n.func, "id", "") == "Run" and n.args], "runs are named by keywords"


def test_a_sentence_comes_before_every_code_cell(cells):
    pairs = zip([None, *cells], cells, strict=False)
    bare = [c.id for p, c in pairs if c.cell_type == "code" and (p is None or p.cell_type != "markdown")]
    assert not bare, "say what the cell is for"


PRIVATE = re.compile(
    r"\b(picture|memoris|test part|training part|validation part|thaw|printed by|too kind|warm start|cold start|told)"
    r"|chooses? nothing|used once|never used for selection",  # true of a run, not of the choices made here
    re.I,
)


def test_prose_and_code_speak_the_fields_terms(cells):
    found = {c.id: match[0] for c in cells if (match := PRIVATE.search(c.source))}
    assert not found, "image, nearest neighbour, test set, unfrozen, reported, optimistic, pretrained, from scratch"
