"""Notebooks are committed with tagged parameters, run from top to bottom, with outputs and no patient's image."""

import ast
import re

import nbformat
import pytest

from datasets.catalog import REPO
from utils.chapters import machine_paths

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 15  # lines
OF_RECORDS = "8_results"  # shows what was run, on no data of its own


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    """Cells of each chapter."""
    return nbformat.read(request.param, as_version=4).cells


def test_one_parameters_cell_with_the_quick_phantom_as_default(cells, request):
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    if OF_RECORDS in request.node.name:
        return
    assert "quick = True" in tagged[0].source
    assert 'dataset = "phantom"' in tagged[0].source, "a committed output may show the phantom only"


def test_committed_after_one_run_from_top_to_bottom(cells):
    code = [c for c in cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no figure among the outputs"
    assert not [o for o in outputs if o.output_type == "error"]


def test_claims_are_asserted_and_functions_live_in_modules(cells):
    code = [c.source for c in cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
    assert any("assert " in source for source in code)
    assert not [source for source in code if "def " in source or len(source.splitlines()) > LONGEST_CELL]


def test_a_sentence_comes_before_every_code_cell(cells):
    before = dict(zip([c.id for c in cells[1:]], cells, strict=False))
    bare = [
        c.id for c in cells if c.cell_type == "code" and (c.id not in before or before[c.id].cell_type != "markdown")
    ]
    assert not bare, "say what the cell is for"


def test_outputs_name_no_folder_of_the_machine_and_hold_no_warnings(cells):
    assert not machine_paths({"cells": cells})
    assert not [c.id for c in cells for o in c.get("outputs", []) if o.get("name") == "stderr"]


def test_metadata_are_those_of_the_notebook_alone(request, cells):
    assert {name for c in cells for name in c.metadata} <= {"tags"}, "papermill's stay outside: make chapters"
    assert {tag for c in cells for tag in c.metadata.get("tags", [])} <= {"parameters", "summary"}


def test_runs_are_named_by_keywords(cells):
    calls = [node for c in cells if c.cell_type == "code" for node in ast.walk(parsed(c.source))]
    positional = [n for n in calls if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Run" and n.args]
    assert not positional


def parsed(source: str) -> ast.Module:
    return ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%")))


PRIVATE = re.compile(
    r"\b(picture|memoris|test part|training part|validation part|thaw|printed by|too kind|warm start|cold start|told)",
    re.I,
)


def test_prose_and_code_speak_the_fields_terms(cells):
    found = {c.id: match[0] for c in cells if (match := PRIVATE.search(c.source))}
    assert not found, "image, nearest neighbour, test set, unfrozen, reported, optimistic, pretrained, from scratch"
