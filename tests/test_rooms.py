"""The rooms: imports go one way, files are short, and no code folder has the name of a data set."""

import ast
from pathlib import Path

import pytest

from datasets.catalog import CATALOG, REPO

ROOMS = ["recipes", "training", "evaluation", "analysis", "reporting"]  # each may import those before it
LONGEST = 320  # lines of a file
CODE = [path for room in ("models", "datasets", "utils") for path in sorted((REPO / room).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, at its top or later, `if TYPE_CHECKING` left out."""
    tree, found = ast.parse(path.read_text()), set()
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    hidden = {inner for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] in ("models", "datasets", "utils")}


def forbidden(path: Path) -> list[str]:
    """What a file must not begin its imports with."""
    room, *rest = path.relative_to(REPO).parts
    if room == "models":
        return ["datasets", "utils"]
    if room == "datasets":
        return ["utils", "models"]
    if rest[0] in ROOMS:
        return [f"utils.{later}" for later in ROOMS[ROOMS.index(rest[0]) + 1 :]] + ["utils.headless"]
    return [f"utils.{room}" for room in ROOMS]  # files.py and headless.py serve all rooms


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(REPO)))
def test_imports_go_one_way_and_files_are_short(path):
    wrong = [name for name in imports(path) for ban in forbidden(path) if f"{name}.".startswith(f"{ban}.")]
    assert not wrong, f"{path.relative_to(REPO)} imports {wrong}"
    assert len(path.read_text().splitlines()) <= LONGEST, "one job a file: split it"


def test_the_rule_finds_an_import_that_goes_the_wrong_way(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from utils.reporting import runs\nimport datasets.catalog\n")
    assert imports(file) == {"utils.reporting.runs", "datasets.catalog"}
    assert forbidden(REPO / "utils/training/loop.py")[-2:] == ["utils.reporting", "utils.headless"]


def test_no_code_folder_has_the_name_of_a_data_set():
    folders = {path.name for path in (REPO / "datasets").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders == {"sources", "store", "generator", "curation"} and not folders & set(CATALOG)
