"""`python -m utils.headless`: parameters, errors, signals and what is left on disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from small_notebook import small_notebook

from datasets.catalog import REPO, DataError
from utils import files, headless, parameters

PATHS = """dataset = "phantom"  # cheng, sartaj
weights = ""  # "imagenet", or the path of a weight file; "": from scratch
files = ""  # a file or a folder
run = "a.safetensors"  # name of a run"""
KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
SLEEP = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"


def start(tmp_path: Path, *arguments: object, **environment: str) -> subprocess.Popen:
    """Headless in a process of its own, in `tmp_path` and with its output root there."""
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(tmp_path)} | environment
    command = [sys.executable, "-m", "utils.headless", *map(str, arguments)]
    return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs headless in this process, with its output root in `tmp_path`; returns exit code, output and errors."""
    for name, value in {"BRAIN_MRI_OUTPUT": str(tmp_path), "BRAIN_MRI_HEADLESS": ""}.items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)}
    yield lambda *arguments: (headless.main(list(map(str, arguments))), *capfd.readouterr())
    for number, handler in handlers.items():
        signal.signal(number, handler)


def texts(tmp_path: Path) -> str:
    """What the executed notebook shows."""
    (path,) = (tmp_path / "runs" / "notebooks").glob("*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


VALUES = [  # of the command line, the default, what it becomes or what is taken instead
    ("true", False, True),
    ("No", True, False),
    ("12", 0, 12),
    ("1e-3", 0.5, 0.001),
    ("3", "name", "3"),
    ("[1e-3, 2]", [], [0.001, 2]),
    ("[ViT, VGG16]", [], ["ViT", "VGG16"]),
    ("[1, 2]", (0,), [1, 2]),
    ("{a: 1}", {}, {"a": 1}),
    ("7", None, 7),
    ("ViT", None, "ViT"),
    ("3", True, "true or false"),
    ("2.5", 1, "a whole number"),
    ("fast", 0.1, "a number"),
    ("[1", [1], "a list"),
]


@pytest.mark.parametrize(("text", "default", "value"), VALUES)
def test_a_value_gets_the_type_of_the_default_or_is_refused_with_it(text, default, value):
    try:
        got = parameters.typed("name", text, default)
    except DataError as error:
        assert str(error).startswith(f"parameter 'name' takes {value}, ") and str(error).endswith(f"not '{text}'")
    else:
        assert got == value and type(got) is type(value)


@pytest.fixture
def caller(tmp_path, monkeypatch) -> Path:
    """The folder in which the command runs, with notebooks, and names that are no paths though they exist in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))
    monkeypatch.setenv("BRAIN_MRI_DATA", str(tmp_path / "data"))
    for name in ("notebooks", "cheng", "imagenet", "weights", "folder", "data/sartaj"):
        Path(name).mkdir(parents=True)
    for file in ("manifest.csv", "images.h5"):
        Path("data/sartaj", file).touch()
    Path("sartaj").mkdir()
    Path("weights/a.safetensors").touch()
    Path("a.safetensors").symlink_to("weights/a.safetensors")
    Path("notebooks/beside.safetensors").touch()
    small_notebook(Path("notebooks/paths.ipynb"), "print([dataset, weights, files, run])", parameters=PATHS)
    small_notebook(Path("small.ipynb"), "open('ran', 'w')")
    small_notebook(Path("bare.ipynb"), "1", parameters=None)
    small_notebook(Path("computed.ipynb"), "1", parameters="import os\nroot = os.getcwd()")
    for name, content in {"text": b"hello", "list": b"[]", "bytes": b"\xff\xfe\x00", "deep": b"[" * 50_000}.items():
        Path(f"{name}.ipynb").write_bytes(content)
    return tmp_path


WRONG = [  # arguments, what is said of them
    ("small.ipynb -p flod 3", "unknown parameter 'flod'; did you mean 'fold'?"),
    ("small.ipynb -p fold three", "parameter 'fold' takes a whole number, such as 0; not 'three'"),
    ("small.ipynb -p dataset \udcff", r"parameter 'dataset': '\udcff', a name that is not UTF-8; rename it"),
    ("small.ipynb --output \udcff.ipynb", r"\udcff.ipynb', a name that is not UTF-8; rename it"),
    ("smal.ipynb", "unknown notebook 'smal.ipynb'; did you mean 'small.ipynb'?"),
    ("folder", "unknown notebook 'folder'"),
    ("bare.ipynb", "bare.ipynb has no cell tagged 'parameters'"),
    ("text.ipynb", "text.ipynb is not a notebook of format 4"),
    ("list.ipynb", "list.ipynb is not a notebook of format 4"),
    ("bytes.ipynb", "bytes.ipynb is not a notebook of format 4"),
    ("deep.ipynb", "deep.ipynb is not a notebook of format 4"),
    ("computed.ipynb", "may only hold lines like `epochs = 3`"),
    ("small.ipynb --output page.html", "--output page.html must end in .ipynb"),
    ("small.ipynb --output ./small.ipynb", "is the notebook itself"),
    ("notebooks/paths.ipynb -p weights beside.safetensors", "there is no file {}/beside.safetensors"),
    ("notebooks/paths.ipynb -p weights imagnet", 'there is no file {}/imagnet; it also takes "imagenet"'),
    ("notebooks/paths.ipynb -p weights weights", "there is no file {}/weights"),
    ("notebooks/paths.ipynb -p files nothing", "there is no file or folder {}/nothing"),
    ("small.ipynb -p dataset br35h", "the data set 'br35h' is not here yet; run: python datasets/download.py br35h"),
    ("small.ipynb -p dataset cheng", "and run: python datasets/download.py cheng --archive FILE"),
    ("small.ipynb -p dataset own", "'own' is not here yet; run: python datasets/download.py own --folder FOLDER"),
    ("small.ipynb -p dataset chegn", "unknown data set 'chegn'; did you mean 'cheng'?"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments_exit_2_with_a_remedy_and_run_nothing(caller, capsys, arguments, message):
    before = sorted(caller.rglob("*"))
    assert headless.main(arguments.split()) == headless.USAGE
    said = capsys.readouterr()
    assert message.format(caller) in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert said.out == "" and sorted(caller.rglob("*")) == before


MADE = [  # a parameter, its value, what it becomes
    ("weights", "weights/a.safetensors", "{}/weights/a.safetensors"),
    ("weights", "a.safetensors", "{}/a.safetensors"),  # the link, whose ending says what it is
    ("weights", "{}/a.safetensors", "{}/a.safetensors"),
    ("weights", "imagenet", "imagenet"),
    ("weights", "", ""),
    ("files", "weights", "{}/weights"),
    ("dataset", "sartaj", "sartaj"),
    ("run", "a.safetensors", "a.safetensors"),
]


@pytest.mark.parametrize(("name", "value", "made"), MADE)
def test_a_path_is_that_of_the_callers_folder_and_a_word_stays(caller, capsys, name, value, made):
    assert headless.main(["notebooks/paths.ipynb", "-p", name, value.format(caller), "--list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))
    assert line.removeprefix(f"{name:<14} ").startswith(f"{made.format(caller):<18} ")


def test_which_parameters_of_the_chapters_are_paths():
    """Their comments say so; `weights` of the first chapter is the name of a run."""
    found = {
        (path.name.partition("_")[0], name): parameters.path_kinds(name, parameter.help)
        for path in (REPO / "notebooks").glob("*.ipynb")
        for name, parameter in parameters.read_parameters(path).items()
    }
    weights = {(chapter, "weights"): ["file"] for chapter in "3567"}
    others = {("8", "evidence_folder"): ["folder"], ("9", "files"): ["file", "folder"], ("10", "model"): ["file"]}
    assert {key: kinds for key, kinds in found.items() if kinds} == weights | others


def test_list_shows_values_defaults_and_help(caller, capsys):
    assert headless.main(["small.ipynb", "-p", "fold", "1", "-p", "fold", "3", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["dataset", "fold", "quick"]
    assert lines[1].split() == ["fold", "3", "0-4", "[default:", "0]"]
    assert lines[6].split(maxsplit=1)[1] == "#ff0000            not a comment = not a comment"


QUICK = [  # what follows a job's "dataset cheng, rate 0.5, limit 9, quick false", and what the notebook gets
    ("", {"dataset": "cheng", "rate": 0.5, "limit": 9, "quick": False}),
    ("rate=0.1 quick=true", {"dataset": "cheng", "rate": 0.1, "limit": 9, "quick": True}),
    ("quick=true dataset=sartaj", {"dataset": "sartaj", "limit": 9, "quick": True}),
    ("quick=true quick=false", {"dataset": "cheng", "rate": 0.5, "limit": 9, "quick": False}),
]


@pytest.mark.parametrize(("given", "wanted"), QUICK)
def test_a_job_asked_to_be_quick_has_the_sizes_of_its_notebook(caller, given, wanted):
    pairs = [pair.split("=") for pair in f"dataset=cheng rate=0.5 limit=9 quick=false {given}".split()]
    assert parameters.overrides(parameters.read_parameters(Path("small.ipynb")), pairs) == wanted


@pytest.mark.parametrize(("script", "names"), [("1", 2), ("", 4)], ids=["of jobs/run.sh", "of another job"])
def test_notebooks_of_one_job_have_names_of_their_own(caller, monkeypatch, script, names):
    """Where the same parameters run again in a job of jobs/run.sh, the name is the same, too: it resumes."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("BRAIN_MRI_CODE", script)
    found = set()
    for number in range(4):
        monkeypatch.setattr(headless.os, "getpid", lambda number=number: number)
        found.add(headless._output_path(Path("small.ipynb"), None, {"fold": number % 2}).name)
    assert len(found) == names and all(name.startswith("small-17-") for name in found)


def test_a_run_passes_parameters_prints_the_summary_and_leaves_notebook_and_html(tmp_path, small_phantom):
    folder = tmp_path / "a {strange} folder"
    folder.mkdir()
    path = small_notebook(
        folder / "small.ipynb",
        "import os, sys\nprint('epoch 1')\nprint(sys.executable, os.getcwd(), sep='\\n')",
        "from pathlib import Path\nassert Path(os.environ['BRAIN_MRI_OUTPUT']).is_absolute()",
        "import matplotlib\nprint('values', (dataset, fold, quick, rate, limit, sizes), __debug__)",
    )
    kernelspec = tmp_path / "kernels" / "python3"  # someone else's python3, which must not be taken
    kernelspec.mkdir(parents=True)
    (kernelspec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "other"}))
    values = {"dataset": "phantom", "fold": 2, "quick": "false", "rate": "1e-4", "limit": 9, "sizes": "[32]"}
    words = [word for name, value in values.items() for word in ("-p", name, value)]
    places = {"JUPYTER_PATH": str(tmp_path), "BRAIN_MRI_OUTPUT": ".", "BRAIN_MRI_DATA": str(small_phantom)}
    places |= {"SLURM_JOB_ID": "17", "BRAIN_MRI_CODE": "code", "PYTHONOPTIMIZE": "1", "MPLBACKEND": "nonsense"}
    process = start(tmp_path, path.relative_to(tmp_path), *words, "--html", **places)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and errors == ""
    lines, (page,) = out.splitlines(), (tmp_path / "runs" / "notebooks").glob("small-17-*.html")
    assert {"epoch 1", sys.executable, str(folder)} <= set(lines)
    assert re.search(r"^\[ +\d+\.\d s\] cell 3: import os, sys$", out, re.MULTILINE), "a line a cell"
    summary = "values ('phantom', 2, False, 0.0001, 9, [32]) True"
    assert lines[-3:] == [summary, f"notebook: {page.with_suffix('.ipynb')}", f"HTML:     {page}"]
    assert "epoch 1" in texts(tmp_path) and "epoch 1" in page.read_text()


ENDS = {  # the last cell → exit code, what is said of it
    "numerator = 1\nnumerator / 0": (1, "error: small.ipynb, cell 3: ZeroDivisionError: division by zero"),
    "class TrainingPaused(Exception): pass\nraise TrainingPaused('after epoch 3 of 9')": (75, "paused: after epoch 3"),
    KILL: (1, "error: small.ipynb: the kernel died in cell 3; often out of memory"),
    "bytes(2**62)": (1, "try a smaller batch_size or image_size"),
}


@pytest.mark.parametrize("cell", ENDS, ids=["error", "paused", "killed", "memory"])
def test_what_ends_a_run_has_its_code_and_its_line_and_keeps_the_notebook(run, tmp_path, cell):
    expected, said = ENDS[cell]
    code, out, errors = run(small_notebook(tmp_path / "small.ipynb", "print('before')", cell))
    assert code == expected and said in (out if code == 75 else errors) and "before" in texts(tmp_path)
    assert "papermill" not in errors and "\x1b" not in errors
    if code == 75:
        assert errors == ""
    elif cell is KILL:
        assert "Traceback" not in errors
    else:
        assert f"{cell.splitlines()[-1]}" in errors, "its traceback"


def test_what_torch_says_without_memory_is_known():
    with pytest.raises(RuntimeError, match=headless.NO_MEMORY):
        torch.empty(2**60)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 20)])
def test_a_signal_ends_the_kernel_and_keeps_what_there_is(tmp_path, number, times):
    """SLURM and torchrun both send one; a second one while the first is obeyed changes nothing."""
    process = start(tmp_path, small_notebook(tmp_path / "small.ipynb", SLEEP))
    kernel = next(int(line) for line in process.stdout if line.strip().isdigit())  # output arrives live
    process.send_signal(signal.SIGUSR1)  # must not end it: SLURM's warning is for the batch script
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert errors.count("stopped by a signal in cell 2") == 1 and str(kernel) in texts(tmp_path)
    command_line = Path(f"/proc/{kernel}/cmdline")  # empty for a process that ended and was not waited for
    assert not command_line.exists() or command_line.read_text() == ""


def test_a_kernel_that_does_not_start_is_reported(run, tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "broken.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code, _, errors = run(small_notebook(tmp_path / "small.ipynb", "1"))
    assert code == 1 and "error: small.ipynb: the kernel does not answer before the first cell" in errors
    assert "Traceback" not in errors


def test_only_rank_0_writes_and_prints(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    path = small_notebook(tmp_path / "small.ipynb", "print('working')", "1 / 0")
    code, out, errors = run(path, "--html")
    assert code == 1 and out == "" and "ZeroDivisionError" in errors and sorted(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_said(run, tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "1")
    code, _, errors = run(path, "--output", path / "below-a-file.ipynb")
    assert code == 1 and ".ipynb: cannot be written, File exists; " in errors and errors.count("\n") == 1
    gone = f"import shutil, time\ntime.sleep(1)\nshutil.rmtree({str(tmp_path / 'runs')!r})"  # nothing is written now
    code, _, errors = run(small_notebook(tmp_path / "gone.ipynb", gone, "1"))
    assert code == 1 and "its folder was removed meanwhile" in errors and errors.count("\n") == 1


def test_html_that_cannot_be_made_is_one_line_and_the_notebook_stays(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    code, out, errors = run(small_notebook(tmp_path / "small.ipynb", "print('done')"), "--html")
    assert code == 1 and errors.count("\n") == 1 and "no HTML can be made of it (ModuleNotFoundError: " in errors
    assert "notebook: " in out and "done" in texts(tmp_path)


def test_files_are_readable_as_the_umask_says(tmp_path):
    with files.replacing(tmp_path / "model.safetensors") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~files.UMASK
