"""The environment: one list for pip and conda, complete, locked, without idle lines; our `datasets` beside others."""

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, version

import pytest
import yaml

from datasets.catalog import REPO

OURS = {"datasets", "models", "utils"}
NEEDED = {  # pinned though no file imports them, and why
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
MAKEFILE, LOCK = (REPO / "Makefile").read_text(), (REPO / "requirements.lock").read_text()


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def pins() -> dict[str, str]:
    """Distribution → version, from requirements.txt; each line must pin exactly one."""
    lines = [line.split("#")[0].strip() for line in (REPO / "requirements.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs) and len({normalised(name) for name, _ in pairs}) == len(pairs), pairs
    return {normalised(name): pinned for name, pinned in pairs}


installed = cache(packages_distributions)  # module → distributions; it takes a second
PATHS = [path for name in (*OURS, "tests", "benchmarks") for path in (REPO / name).rglob("*.py")]


def imported() -> set[str]:
    """Distributions that modules, scripts and notebooks of the repository import."""
    texts = [path.read_text() for path in PATHS]
    for path in (REPO / "notebooks").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        texts.append("\n".join(f"pass  # {line}" if line.lstrip()[:1] in ("%", "!") else line for line in lines))
    return distributions(texts)


def distributions(texts: Iterable[str]) -> set[str]:
    """Distributions of others that Python code imports."""
    nodes, modules = [node for text in texts for node in ast.walk(ast.parse(text))], set()
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    ours = OURS | {"honest_brain_mri"} | {p.stem for p in PATHS if p.relative_to(REPO).parts[0] not in OURS}
    others = {module.split(".")[0] for module in modules} - ours - sys.stdlib_module_names
    known = installed()
    return {normalised(name) for module in others for name in known.get(module, [f"{module} (not installed)"])}


def test_conda_installs_the_same_lock_as_pip():
    *packages, pip = yaml.safe_load((REPO / "pytorch-conda.yaml").read_text())["dependencies"]
    assert packages == ["python=3.11", "pip"]  # no package has a second version here
    assert pip == {"pip": ["-r requirements.lock"]}


def test_everything_pinned_is_installed_in_that_version_and_imports_from_any_folder_beside_our_datasets(tmp_path):
    pinned = pins()
    assert {name: version(name) for name in pinned} == pinned
    known = {m: {normalised(n) for n in names} for m, names in installed().items() if m.isidentifier()}
    modules = sorted(m for m, names in known.items() if not m.startswith("_") and names & set(pinned))
    code = f"import datasets, importlib, sys\nassert datasets.__path__ == [{str(REPO / 'datasets')!r}]\n"
    code += "for module in sys.argv[1:]: importlib.import_module(module)"
    subprocess.run([sys.executable, "-c", code, *modules], cwd=tmp_path, check=True, timeout=300)


def test_what_is_imported_is_pinned_and_nothing_else():
    found = imported()
    assert found <= set(pins()), f"add to requirements.txt: {found - set(pins())}"
    assert set(pins()) == found | set(NEEDED), "nothing uses the others"


def test_a_wheel_asks_for_what_its_modules_import_as_old_as_it_is_known_to_work_with(monkeypatch):
    monkeypatch.chdir(REPO)
    spec = importlib.util.spec_from_file_location("setup", REPO / "setup.py")
    spec.loader.exec_module(setup := importlib.util.module_from_spec(spec))
    asked = dict(line.split(">=") for line in setup.dependencies())
    assert {normalised(name): major for name, major in asked.items()}.items() <= {
        name: pinned.split(".")[0] for name, pinned in pins().items()
    }.items()
    texts = [path.read_text() for path in setup.files() if path.suffix == ".py"]
    assert len(texts) > 100 and distributions(texts) <= {*map(normalised, asked)}


def test_the_lock_pins_what_requirements_ask_for_with_hashes_and_no_address_of_an_index():
    locked = dict(re.findall(r"^([\w.\[\]-]+)==(\S+) \\$", LOCK, re.MULTILINE))
    found = {normalised(name): pinned for name, pinned in locked.items()}
    assert len(pins()) > 40 and {name: found.get(name) for name in pins()} == pins(), "make lock"
    blocks = re.split(r"^(?=[\w.\[\]-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked) and all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK and "--index" not in LOCK and "make audit" in LOCK


@pytest.mark.parametrize(
    ("platform", "minor", "asked"),
    [
        ("linux", 11, "--require-hashes -r requirements.lock"),
        ("linux", 12, "-r requirements.txt"),
        ("darwin", 11, "-r requirements.txt"),
    ],
)
def test_set_up_takes_what_is_locked_where_the_lock_is_for(tmp_path, platform, minor, asked):
    """`make setup` with an interpreter that notes how pip is called."""
    for name in ("Makefile", "requirements.txt", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((REPO / name).read_bytes())
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    told = f"import sys; sys.platform, sys.version_info = {platform!r}, (3, {minor}); exec(sys.argv.pop(1))"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in -c) exec {sys.executable} -c "{told}" "$2" ;; *) echo "$@" >>calls ;; esac\n'
    )
    for path in (python, python.with_name("pip")):
        path.touch()
        path.chmod(0o755)
    subprocess.run(["make", "setup", f"PYTHON={sys.executable}"], cwd=tmp_path, check=True, capture_output=True)
    how = "-m pip install --quiet --disable-pip-version-check"
    assert (tmp_path / "calls").read_text().splitlines() == [f"{how} {asked}", f"{how} --no-deps -e ."]


def test_what_the_makefile_runs_exists_and_every_target_is_listed_with_help():
    modules = {name for name in re.findall(r"\$\(BIN\)/python -m ([\w.]+)", MAKEFILE) if name != "pip"}
    assert len(modules) > 4 and all(importlib.util.find_spec(name) for name in modules), modules
    files = re.findall(r"(?:datasets|notebooks)/[\w./]+\.(?:py|ipynb)", MAKEFILE)
    assert files and all((REPO / file).is_file() for file in files), files
    (audit,) = re.findall(r"^\t\S*/pip-audit (.+)$", MAKEFILE, re.MULTILINE)
    assert {"--strict", "--require-hashes", "--disable-pip"} <= set(audit.split()), "else some pass unseen"
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert sorted(phony.split()) == sorted(re.findall(r"^([a-z]+):.*## \S", MAKEFILE, re.MULTILINE)), "make help"
    tables = dict(re.findall(r"^([a-z]+):[^\n]*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))["tables"]
    assert tables.index("utils.report.readme") < tables.index("utils.chapters notebooks/8_results.ipynb")


def test_ci_hooks_and_images_call_what_exists():
    jobs = yaml.safe_load((REPO / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert [step["run"] for job in jobs for step in job["steps"] if "run" in step] == [".ci/run", "make faults"]
    (repo,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    texts = [hook["entry"] for hook in repo["hooks"]]
    texts += [(REPO / name).read_text() for name in ("Dockerfile", "apptainer.def")]
    named = {name for text in texts for name in re.findall(r"tests/[\w/]+\.py|requirements\.\w+", text)}
    assert named == {"tests/notebooks/test_notebooks.py", "requirements.lock"}
    assert all((REPO / name).is_file() for name in [*named, ".ci/run"])


@pytest.mark.parametrize("megabytes, code", [(20, 0), (21, 1)])
def test_a_commit_with_a_large_file_is_refused(megabytes, code, tmp_path):
    (repo,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    (entry,) = [hook["entry"] for hook in repo["hooks"] if hook["id"] == "large-files"]
    small, large = tmp_path / "small", tmp_path / "large"
    small.touch(), large.touch()
    os.truncate(large, megabytes * 2**20)
    done = subprocess.run([*shlex.split(entry), small, large], capture_output=True, text=True, check=False)
    assert done.returncode == code and ("large" in done.stdout) == bool(code)
