"""The rooms: imports go one way, nothing loads what it need not, and texts name files and modules that exist."""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from datasets.catalog import CATALOG, REPO

# Each may import those before it. `run.py`, which all may import, imports no evaluation, nor what comes after it.
ROOMS = ["recipes", "training", "evaluation", "report", "predict", "export", "audit"]
OURS = ("models", "datasets", "utils")
CODE = [path for room in OURS for path in sorted((REPO / room).rglob("*.py"))]
TESTS = [path for folder in ("tests", "benchmarks") for path in sorted((REPO / folder).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, at its top or later; of a task, which calls the evaluation of its own
    predictions, those at its top."""
    tree, found = ast.parse(path.read_text()), set()
    for node in tree.body if path.parent.name == "tasks" else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


def forbidden(path: Path) -> list[str]:
    """What a file must not begin its imports with."""
    room, *rest = path.relative_to(REPO).parts
    if room != "utils":
        return ["datasets", "utils"] if room == "models" else ["utils", "models"]
    name = "training" if rest[0] == "run.py" else rest[0].removesuffix(".py")  # data are of a run, a run has a task
    if name in ROOMS:
        return [f"utils.{later}" for later in ROOMS[ROOMS.index(name) + 1 :]] + ["utils.headless"]
    return [f"utils.{later}" for later in (ROOMS[2:] if name == "run" else ROOMS)]  # what serves all rooms


def test_imports_go_one_way():
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for path in CODE
        for name in sorted(imports(path))
        if any(f"{name}.".startswith(f"{ban}.") for ban in forbidden(path))
    ]
    assert not wrong, wrong
    assert len({name for path in CODE for name in imports(path)}) > 200, "imports are found"


def top_level(path: Path, imported: bool = False) -> set[str]:
    """Names that a file defines at its top level, and those that it imports from other packages' modules."""
    package, found = ".".join(path.parent.relative_to(REPO).parts), set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and imported and node.module != package:
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def test_a_module_and_a_table_of_its_package_never_share_one_name():
    """Otherwise `from package import name` gives one or the other, whichever was imported last."""
    for path in CODE:
        if path.name == "__init__.py":
            modules = {file.stem for file in path.parent.glob("*.py")}
            modules |= {file.parent.name for file in path.parent.glob("*/*.py")}
            assert not top_level(path, imported=True) & modules, path


def test_texts_name_files_and_modules_that_exist():
    """In docstrings, comments and guides: files in backticks exist, and `module.name` is where the name is defined."""
    code = [*CODE, *TESTS]
    files, homes, wrong = {path.name for path in [*code, *REPO.glob("*.py")]}, defaultdict(set), []
    for path in CODE:
        for name in top_level(path):
            homes[name] |= {path.stem, path.parent.name}
    for path in [*code, *REPO.glob("*.md"), *REPO.glob("*/README.md")]:
        text = path.read_text()
        wrong += [(path.name, name) for name in re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", text) if name not in files]
        for module, name in re.findall(r"`(?:\w+\.)*([a-z_]+)\.(\w+)", text):
            if name in homes and module not in homes[name] | {"self", "run"}:
                wrong.append((path.name, f"{module}.{name}"))
    assert not wrong


def test_packages_are_ours_and_no_code_folder_has_the_name_of_a_data_set():
    root = Path(__file__).parents[1]
    assert {name: Path(import_module(name).__path__[0]) for name in OURS} == {name: root / name for name in OURS}
    folders = {path.parent.name for path in (REPO / "datasets").glob("*/__init__.py")}
    assert len(folders) > 3 and not folders & set(CATALOG)


# What one process does in turn → what is not loaded by then: a recipe loads no network, not even torch; a loss no
# trainer; what a command does nothing that takes seconds to import and few networks or metrics use.
SECONDS = "monai timm torchvision torchmetrics accelerate sklearn scipy.stats scipy.optimize kornia"
LIGHT = {
    "import utils.recipes, utils.recipes.published, utils.saved_models": "torch timm models utils.training matplotlib",
    "import utils.training.tasks": "timm models utils.evaluation utils.training.loop",
    "import models; models.OutlineClassifier()": SECONDS,
    "import utils.evaluation.segmentation, utils.predict.verdict": f"{SECONDS} faiss nilearn matplotlib seaborn",
}


def test_importing_a_recipe_loads_no_network_and_a_loss_no_trainer():
    code = f"import sys\nfor step, heavy in {LIGHT}.items():\n    exec(step)\n"
    code += "    print(step, [name for name in heavy.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.stdout.splitlines() == [f"{step} []" for step in LIGHT], done


def without_encoding(code: str) -> list[str]:
    """Calls that read or write a text file in whatever the locale of the machine says."""
    found = []
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        (mode,) = call.args[isinstance(call.func, ast.Name) :][:1] or [ast.Constant("r")]  # `open(path, mode)`
        as_text = isinstance(mode, ast.Constant) and re.fullmatch("[rwaxt+]+", str(mode.value))
        if name in ("read_text", "write_text") or (name == "open" and as_text):
            found += [ast.unparse(call)] if "encoding" not in {key.arg for key in call.keywords} else []
    return found


def test_text_files_are_read_and_written_as_utf_8_whatever_the_locale():
    texts = {path: path.read_text(encoding="utf-8") for path in [*CODE, *(REPO / "benchmarks").rglob("*.py")]}
    for path in (REPO / "notebooks").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        texts |= {f"{path.name}, cell {i}": re.sub(r"(?m)^%.*", "", "".join(c["source"])) for i, c in enumerate(cells)}
    wrong = {str(place): found for place, code in texts.items() if (found := without_encoding(code))}
    assert not wrong, wrong
    assert len(without_encoding("p.read_text()\nopen(p)\np.open('a')\np.open('rb')\np.write_text(x, encoding=e)")) == 3
