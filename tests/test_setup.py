"""The environment: one list for pip and conda, complete and without idle lines; and our `datasets` beside others'."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import yaml

from datasets.catalog import REPO

OURS = {"datasets", "models", "utils"}

# Pinned though no file imports them, and why
NEEDED = {
    "onnxscript": "torch.onnx imports it",
    "six": "kaggle imports it without asking for it",
    "jupyterlab": "make lab",
    "openpyxl": "pandas reads ReMIND's clinical table with it",
    "ipykernel": "runs the notebooks",
    "pytest-timeout": "ends a test that hangs",
    "pytest-xdist": "make test runs two files at a time",
    "nbval": "runs every notebook in make test",
    "ruff": "make test",
}

# Imported where it is installed, and why it is not pinned
OPTIONAL = {"imagededup (not installed)": "what benchmarks/curation.py compares with; it brings packages of its own"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Distribution → version, from requirements.txt; each line must pin exactly one."""
    lines = [line.split("#")[0].strip() for line in (REPO / "requirements.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), pairs
    names = [normalised(name) for name, _ in pairs]
    assert len(names) == len(set(names))
    return dict(zip(names, [pinned for _, pinned in pairs], strict=True))


def sources() -> dict[Path, str]:
    """Python text of every module, script and notebook of the repository."""
    folders = ["datasets", "models", "utils", "tests", "benchmarks"]
    texts = {path: path.read_text() for name in folders for path in (REPO / name).rglob("*.py")}
    for path in (REPO / "notebooks").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        texts[path] = "\n".join(f"pass  # {line}" if line.lstrip()[:1] in ("%", "!") else line for line in lines)
    return texts


def imported() -> dict[str, Path]:
    """Distributions that our files import, each with one such file."""
    distributions = packages_distributions()
    local = OURS | {path.stem for folder in ("tests", "benchmarks") for path in (REPO / folder).rglob("*.py")}
    found = {}
    for path, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in {m.split(".")[0] for m in modules} - local - sys.stdlib_module_names:
                for distribution in distributions.get(module, [f"{module} (not installed)"]):
                    found[normalised(distribution)] = path
    return found


def test_conda_installs_the_same_list_as_pip():
    conda = yaml.safe_load((REPO / "pytorch-conda.yaml").read_text())
    *packages, pip = conda["dependencies"]
    assert packages == ["python=3.11", "pip"]  # no package has a second version here
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}


def test_everything_pinned_is_installed_in_that_version_and_imports(tmp_path):
    pinned = pins()
    assert {name: version(name) for name in pinned} == pinned
    modules = sorted(
        {
            module
            for module, names in packages_distributions().items()
            if module.isidentifier() and not module.startswith("_") and {normalised(n) for n in names} & set(pinned)
        }
    )
    code = "import importlib, sys\nfor module in sys.argv[1:]: importlib.import_module(module)"
    subprocess.run([sys.executable, "-c", code, *modules], cwd=tmp_path, check=True, timeout=300)


def test_everything_imported_is_pinned():
    missing = {name: path.name for name, path in imported().items() if name not in pins() and name not in OPTIONAL}
    assert not missing, f"add to requirements.txt: {missing}"


def test_everything_pinned_is_imported_or_needed():
    idle = set(pins()) - set(imported()) - set(NEEDED)
    assert not idle, f"nothing uses {sorted(idle)}"
    assert set(NEEDED) <= set(pins())


def test_what_the_makefile_runs_exists():
    text = (REPO / "Makefile").read_text()
    modules = {name for name in re.findall(r"\$\(BIN\)/python -m ([\w.]+)", text) if name != "pip"}
    assert {
        "utils.app",
        "utils.headless",
        "utils.chapters",
        "utils.report.readme",
        "models.backbones",
    } == modules
    assert not [name for name in modules if importlib.util.find_spec(name) is None]
    files = re.findall(r"(?:datasets|notebooks)/[\w./]+\.(?:py|ipynb)", text)
    assert files and all((REPO / file).is_file() for file in files), files


def test_every_target_of_the_makefile_is_listed_with_help():
    text = (REPO / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    explained = re.findall(r"^([a-z]+):.*## \S", text, re.MULTILINE)  # what `make help` prints
    assert sorted(phony.split()) == sorted(explained)
    recipes = re.findall(r"^([a-z]+):[^\n]*\n((?:\t.*\n)+)", text, re.MULTILINE)
    tables = dict(recipes)["tables"]
    assert tables.index("utils.report.readme") < tables.index("utils.chapters notebooks/8_results.ipynb")


def test_our_datasets_stands_beside_timm_accelerate_and_torchmetrics_from_any_folder(tmp_path):
    code = f"""
import datasets, models, utils
import torch
from accelerate import Accelerator
from torchmetrics.classification import MulticlassAccuracy
import timm

assert datasets.__file__ == {str(REPO / "datasets" / "__init__.py")!r}, datasets.__file__
accelerator = Accelerator(cpu=True)
net = timm.create_model("resnet10t", num_classes=4)
images = torch.utils.data.TensorDataset(torch.rand(4, 3, 32, 32), torch.arange(4))
net, loader = accelerator.prepare(net, torch.utils.data.DataLoader(images, batch_size=2))
accuracy = MulticlassAccuracy(4, average="micro")
for images, labels in loader:
    logits = net(images)
    accelerator.backward(torch.nn.functional.cross_entropy(logits, labels))
    accuracy.update(logits, labels)
assert 0 <= accuracy.compute() <= 1
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
