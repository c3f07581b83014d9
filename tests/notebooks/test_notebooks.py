"""Notebooks are committed with tagged parameters, run from top to bottom, with outputs and no patient's image."""

import ast
import re
from itertools import pairwise

import nbformat
import pytest

from datasets.catalog import REPO
from utils.chapters import machine_paths

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 25  # lines beside imports
LONGEST_SENTENCE = 28  # of a cell that tells what the records say
IMPORT = re.compile(r"(from|import) ")
OF_RECORDS = "8_results"  # shows what was run, on no data of its own
FOLDED = re.compile(r"<details>.*?</details>", re.S)  # opens with a click
INTERVAL = re.compile(r"\d \([+-]?[\d.]+(?:–| to )[+-]?[\d.]+\)")
LISTED = re.compile(r"(?:^(?:- |\d\. ).*\n?)+", re.M)


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    """Cells of each chapter."""
    return nbformat.read(request.param, as_version=4).cells


@pytest.fixture(scope="module")
def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def read(cell) -> list[str]:
    """The texts of a cell that a reader reads without a click: prose, or what was printed and shown."""
    texts = [cell.source] if cell.cell_type == "markdown" else []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts.append(output.get("text") or data.get("text/html") or data.get("text/markdown") or "")
    return [FOLDED.sub("", text) for text in texts]


def test_a_chapter_is_short(cells):
    texts = [text for cell in cells for text in read(cell)]
    assert len(cells) <= 60
    assert sum("| --- |" in text or "<table" in text for text in texts) <= 2, "fold the others"
    assert sum(len(INTERVAL.findall(text)) for text in texts) <= 60
    assert max(len(found.splitlines()) for text in texts for found in LISTED.findall(text)) <= 5


def test_the_answer_comes_first_and_is_short(code):
    outputs = [one for cell in code if "records" in cell.metadata.get("tags", []) for one in cell.outputs]
    answer = next(one.data["text/markdown"] for one in outputs if "text/markdown" in one.get("data", {}))
    assert len(answer.split()) <= 40 and 1 <= answer.count("**") / 2 <= 3, answer


def test_every_figure_is_described_below_and_to_those_who_do_not_see_it(cells):
    for cell, below in pairwise(cells):
        images = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        assert not images or below.source.startswith("**What you see"), cell.id
        assert all(len(image.metadata.get("image/png", {}).get("alt", "")) > 40 for image in images), "make chapters"


def test_what_a_chapter_teaches_is_written_out_before_it_is_used(code, request):
    if request.node.callspec.id[0] in "234567":
        (used, *_) = (number for number, cell in enumerate(code) if "fit(" in cell.source)
        earlier = "".join(cell.source for cell in code[:used])
        assert re.search(r"inspect\.getsource|\.backward\(\)|loss = ", earlier)


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
