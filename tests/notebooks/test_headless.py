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
from small_notebook import small_notebook

from datasets.catalog import DataError
from utils import headless, parameters

PAUSE = "class TrainingPaused(Exception): pass\nraise TrainingPaused('after epoch 3 of 9')"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "utils.headless", *map(str, arguments)]


def run(tmp_path: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run headless in `tmp_path`, with its output root there."""
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(tmp_path)} | environment
    done = subprocess.run(
        command(*arguments), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    # A kernel that closes its sockets may end in this line, after all is done (github.com/zeromq/libzmq/issues/2343).
    done.stderr = re.sub(r"Assertion failed: pfd\.revents & POLLIN \(src/signaler\.cpp:\d+\)\n", "", done.stderr)
    return done


def executed(tmp_path: Path) -> nbformat.NotebookNode:
    (path,) = (tmp_path / "runs" / "notebooks").glob("*.ipynb")
    return nbformat.read(path, as_version=4)


def texts(notebook: nbformat.NotebookNode) -> str:
    return "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("true", False, True),
        ("No", True, False),
        ("12", 0, 12),
        ("3", 0.5, 3.0),
        ("1e-3", 0.5, 0.001),
        ("3", "name", "3"),
        ("[1e-3, 2]", [], [0.001, 2]),
        ("[ViT, VGG16]", [], ["ViT", "VGG16"]),
        ("[1, 2]", (0,), [1, 2]),
        ("{a: 1}", {}, {"a": 1}),
        ("7", None, 7),
        ("null", None, None),
        ("ViT", None, "ViT"),
    ],
)
def test_a_value_gets_the_type_of_the_default(text, default, value):
    got = parameters.typed("name", text, default)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "default", "kind"),
    [
        ("3", True, "true or false"),
        ("2.5", 1, "a whole number"),
        ("true", 1, "a whole number"),
        ("fast", 0.1, "a number"),
        ("3", [1], "a list"),
        ("[1", [1], "a list"),
        ("null", 1, "a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_expected_type(text, default, kind):
    with pytest.raises(DataError, match=f"parameter 'name' takes {kind}.*not '{text.replace('[', '.')}'"):
        parameters.typed("name", text, default)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.ipynb", "-p", "flod", "3"], "unknown parameter 'flod'; did you mean 'fold'?"),
        (
            ["small.ipynb", "-p", "fold", "three"],
            "parameter 'fold' takes a whole number, such as 0; not 'three'",
        ),
        (["smal.ipynb"], "unknown notebook 'smal.ipynb'; did you mean 'small.ipynb'?"),
        (["folder"], "unknown notebook 'folder'"),
        (["bare.ipynb"], "bare.ipynb has no cell tagged 'parameters'"),
        (["text.ipynb"], "text.ipynb is not a notebook of format 4"),
        (["list.ipynb"], "list.ipynb is not a notebook of format 4"),
        (["bytes.ipynb"], "bytes.ipynb is not a notebook of format 4"),
        (["computed.ipynb"], "may only hold lines like `epochs = 3`"),
        (["small.ipynb", "--output", "page.html"], "--output page.html must end in .ipynb"),
        (["small.ipynb", "--output", "./small.ipynb"], "is the notebook itself"),
    ],
)
def test_wrong_arguments_exit_2_with_a_remedy_and_run_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    small_notebook(Path("small.ipynb"), "open('ran', 'w')")
    small_notebook(Path("bare.ipynb"), "1", parameters=None)
    small_notebook(Path("computed.ipynb"), "1", parameters="import os\nroot = os.getcwd()")
    Path("text.ipynb").write_text("hello")
    Path("list.ipynb").write_text("[]")
    Path("bytes.ipynb").write_bytes(b"\xff\xfe\x00")
    Path("folder").mkdir()
    before = sorted(tmp_path.rglob("*"))

    assert headless.main(arguments) == 2

    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert captured.out == "" and sorted(tmp_path.rglob("*")) == before


def test_list_shows_values_defaults_and_help(tmp_path, capsys):
    path = small_notebook(tmp_path / "small.ipynb", "1")
    assert headless.main([str(path), "-p", "fold", "1", "-p", "fold", "3", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["dataset", "fold", "quick"]
    assert lines[1].split() == ["fold", "3", "0-4", "[default:", "0]"]
    assert lines[6].split(maxsplit=1)[1] == "#ff0000            not a comment = not a comment"


def test_a_run_passes_parameters_prints_the_summary_and_leaves_notebook_and_html(tmp_path):
    folder = tmp_path / "a {strange} folder"
    folder.mkdir()
    path = small_notebook(
        folder / "small.ipynb",
        "import os, sys\nprint('epoch 1')\nprint(sys.executable, os.getcwd(), sep='\\n')",
        "from pathlib import Path\nassert Path(os.environ['BRAIN_MRI_OUTPUT']).is_absolute()",
        "print('values', (dataset, fold, quick, rate, limit, sizes), os.environ['BRAIN_MRI_HEADLESS'])",
    )
    kernelspec = tmp_path / "kernels" / "python3"  # someone else's python3, which must not be taken
    kernelspec.mkdir(parents=True)
    (kernelspec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "other"}))

    values = {"dataset": "cheng", "fold": 2, "quick": "false", "rate": "1e-4", "limit": 9, "sizes": "[32]"}
    result = run(
        tmp_path,
        path.relative_to(tmp_path),
        *(word for name, value in values.items() for word in ("-p", name, value)),
        "--html",
        JUPYTER_PATH=str(tmp_path),
        BRAIN_MRI_OUTPUT=".",
        SLURM_JOB_ID="17",
    )

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert {"epoch 1", sys.executable, str(folder)} <= set(lines)
    page = tmp_path / "runs" / "notebooks" / "small-17.html"
    assert lines[-3:] == [
        "values ('cheng', 2, False, 0.0001, 9, [32]) 1",
        f"notebook: {page.with_suffix('.ipynb')}",
        f"HTML:     {page}",
    ]
    assert "epoch 1" in texts(executed(tmp_path)) and "epoch 1" in page.read_text()
    assert result.stderr == ""


def test_a_failing_cell_gives_its_traceback_and_keeps_the_notebook(tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "print('before')", "numerator = 1\nnumerator / 0", "1")
    result = run(tmp_path, path)
    assert result.returncode == 1
    assert "----> 2 numerator / 0" in result.stderr and "\x1b" not in result.stderr
    assert "error: small.ipynb, cell 3: ZeroDivisionError: division by zero" in result.stderr
    assert "papermill" not in result.stderr
    assert "before" in texts(executed(tmp_path))


def test_paused_training_exits_75_without_a_traceback(tmp_path):
    result = run(tmp_path, small_notebook(tmp_path / "small.ipynb", PAUSE))
    assert result.returncode == 75
    assert "paused: after epoch 3 of 9" in result.stdout and result.stderr == ""
    assert executed(tmp_path)


def test_a_killed_kernel_is_named_and_keeps_the_notebook(tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    result = run(tmp_path, small_notebook(tmp_path / "small.ipynb", "print('before')", kill))
    assert result.returncode == 1
    assert result.stderr.startswith("error: small.ipynb: the kernel died in cell 3; often out of memory")
    assert "Traceback" not in result.stderr and "before" in texts(executed(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_kernel_and_keeps_what_there_is(tmp_path, number):
    path = small_notebook(tmp_path / "small.ipynb", "import os, time\nprint(os.getpid())\ntime.sleep(60)")
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(tmp_path)}
    with subprocess.Popen(command(path), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        kernel = next(int(line) for line in process.stdout if line.strip().isdigit())  # output arrives live
        process.send_signal(signal.SIGUSR1)  # must not end it: SLURM's warning is for the batch script
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(number)
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number
    assert "stopped by a signal in cell 2" in errors and "Traceback" not in errors
    assert str(kernel) in texts(executed(tmp_path))
    command_line = Path(f"/proc/{kernel}/cmdline")  # empty for a process that ended and was not waited for
    assert not command_line.exists() or command_line.read_text() == ""


def test_a_second_signal_while_the_first_is_obeyed_changes_nothing(tmp_path):
    """SLURM and torchrun both send one; the kernel is in the middle of a cell and must not delay the end."""
    path = small_notebook(tmp_path / "small.ipynb", "import time\nprint('asleep')\ntime.sleep(60)")
    env = os.environ | {"BRAIN_MRI_OUTPUT": str(tmp_path)}
    with subprocess.Popen(command(path), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert any(line.strip() == "asleep" for line in process.stdout)
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.count("stopped by a signal in cell 2") == 1 and "Traceback" not in errors
    assert "asleep" in texts(executed(tmp_path))


def test_a_kernel_that_does_not_start_is_reported(tmp_path):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "broken.py").write_text("import os\nos._exit(1)\n")
    result = run(tmp_path, small_notebook(tmp_path / "small.ipynb", "1"), IPYTHONDIR=str(tmp_path / "ipython"))
    assert result.returncode == 1
    assert "error: small.ipynb: the kernel does not answer before the first cell" in result.stderr
    assert "Traceback" not in result.stderr


def test_only_rank_0_writes_and_prints(tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "print('working')", "1 / 0")
    result = run(tmp_path, path, "--html", RANK="1")
    assert result.returncode == 1
    assert result.stdout == "" and "ZeroDivisionError" in result.stderr
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_said(tmp_path):
    path = small_notebook(tmp_path / "small.ipynb", "1")
    result = run(tmp_path, path, "--output", path / "below-a-file.ipynb")
    assert result.returncode == 1
    assert ".ipynb: cannot be written (File exists)" in result.stderr and "Traceback" not in result.stderr


def test_an_output_folder_that_was_removed_meanwhile_is_no_full_disk(tmp_path):
    gone = f"import shutil, time\ntime.sleep(1)\nshutil.rmtree({str(tmp_path / 'runs')!r})"  # nothing is written now
    path = small_notebook(tmp_path / "small.ipynb", gone, "1")
    result = run(tmp_path, path)
    assert result.returncode == 1
    assert "its folder was removed meanwhile" in result.stderr and "space" not in result.stderr
    assert result.stderr.count("\n") == 1
