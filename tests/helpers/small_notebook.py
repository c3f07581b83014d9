"""Small notebooks for the tests of `utils/headless.py` and of the jobs."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

PARAMETERS = """dataset = "phantom"  # data set, by name
fold = 0  # 0-4
quick = True
rate = 1e-3
limit = None
sizes = [64, 128]
colour = "#ff0000"  # not a comment = not a comment"""


def small_notebook(path: Path, *cells: str, parameters: str | None = PARAMETERS) -> Path:
    """Write a notebook with these code cells, the last one tagged `summary`; returns `path`."""
    code = [new_code_cell(source) for source in cells]
    if cells:
        code[-1].metadata.tags = ["summary"]
    if parameters is not None:
        code.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    nbformat.write(new_notebook(cells=code), path)
    return path
