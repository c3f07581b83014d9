"""Parameters that are paths: relative to the caller's folder, and refused before anything runs if nothing is there."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from small_notebook import small_notebook

from datasets.catalog import REPO
from utils import headless
from utils.parameters import path_kinds, read_parameters

PARAMETERS = """dataset = "phantom"  # cheng, sartaj
weights = ""  # "imagenet", or the path of a weight file; "": from scratch
files = ""  # a file or a folder
run = "a.safetensors"  # name of a run"""


@pytest.fixture
def caller(tmp_path, monkeypatch) -> Path:
    """The folder in which the command runs. Its notebook is below, and names that are no paths exist in it, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    for name in ("notebooks", "cheng", "imagenet", "weights"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights/a.safetensors").touch()
    (tmp_path / "a.safetensors").symlink_to("weights/a.safetensors")
    (tmp_path / "notebooks/beside.safetensors").touch()
    small_notebook(Path("notebooks/small.ipynb"), "print([dataset, weights, files, run])", parameters=PARAMETERS)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [
        ("weights", "weights/a.safetensors", "{}/weights/a.safetensors"),
        ("weights", "a.safetensors", "{}/a.safetensors"),  # the link, whose ending says what it is
        ("weights", "{}/a.safetensors", "{}/a.safetensors"),
        ("weights", "imagenet", "imagenet"),
        ("weights", "", ""),
        ("files", "weights", "{}/weights"),
        ("files", "a.safetensors", "{}/a.safetensors"),
        ("dataset", "cheng", "cheng"),
        ("run", "a.safetensors", "a.safetensors"),
    ],
)
def test_a_path_is_that_of_the_callers_folder_and_a_word_stays(caller, capsys, name, value, made):
    assert headless.main(["notebooks/small.ipynb", "-p", name, value.format(caller), "--list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))
    assert line.removeprefix(f"{name:<14} ").startswith(f"{made.format(caller):<18} ")


def test_the_kernel_in_the_folder_of_its_notebook_gets_the_path(caller):
    """The default is not looked at: a notebook may name what it makes."""
    command = [sys.executable, "-m", "utils.headless", "notebooks/small.ipynb", "-p", "weights", "a.safetensors"]
    subprocess.run([*command, "--output", "out.ipynb"], check=True, timeout=120)
    (output,) = nbformat.read("out.ipynb", as_version=4).cells[-1].outputs
    assert output.text == f"{['phantom', f'{caller}/a.safetensors', '', 'a.safetensors']}\n"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", "weights/b.safetensors", 'there is no file {}/weights/b.safetensors; it also takes "imagenet"'),
        ("weights", "beside.safetensors", "there is no file {}/beside.safetensors"),
        ("weights", "imagnet", 'there is no file {}/imagnet; it also takes "imagenet"'),
        ("weights", "weights", "there is no file {}/weights"),
        ("files", "nothing", "there is no file or folder {}/nothing"),
    ],
)
def test_a_path_where_nothing_is_is_refused_before_anything_runs(caller, capsys, name, value, message):
    before = sorted(caller.rglob("*"))
    assert headless.main(["notebooks/small.ipynb", "-p", name, value]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: parameter '{name}': {message.format(caller)}")
    assert captured.err.count("\n") == 1 and captured.out == "" and sorted(caller.rglob("*")) == before


def test_which_parameters_of_the_chapters_are_paths():
    """Their comments say so; `weights` of the first chapter is the name of a run."""
    found = {
        (path.name[0], name): path_kinds(name, parameter.help)
        for path in (REPO / "notebooks").glob("*.ipynb")
        for name, parameter in read_parameters(path).items()
    }
    assert {key: kinds for key, kinds in found.items() if kinds} == {
        ("3", "weights"): ["file"],
        ("6", "weights"): ["file"],
        ("5", "weights"): ["file"],
        ("7", "weights"): ["file"],
        ("8", "evidence_folder"): ["folder"],
        ("9", "files"): ["file", "folder"],
    }
