"""How notebooks are committed: parameters tagged, run from top to bottom, with outputs and no patient's image."""

import nbformat
import pytest

from datasets.catalog import REPO

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 25  # lines
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
    code = [c.source for c in cells if c.cell_type == "code"]
    assert any("assert " in source for source in code)
    assert not [source for source in code if "def " in source or len(source.splitlines()) > LONGEST_CELL]


def test_outputs_name_no_folder_of_the_machine(cells):
    assert not [c.id for c in cells if "/home/" in str(c.get("outputs")) or str(REPO) in str(c.get("outputs"))]
