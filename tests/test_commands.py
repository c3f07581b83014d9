"""What every command does with an error that its user can mend."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

from datasets.catalog import REPO, DataError
from datasets.commands import errors_in_one_line


@pytest.mark.parametrize(("raised", "kinds"), [(DataError("a.csv: is empty"), ()), (KeyError("a"), (KeyError,))])
def test_an_error_of_the_user_is_one_line_and_a_fault_of_ours_keeps_its_traceback(raised, kinds, capsys):
    @errors_in_one_line(*kinds)
    def main(error=None):
        """What it is for."""
        if error:
            raise error
        return 7

    assert main() == 7 and main.__doc__ == "What it is for."
    assert main(raised) == 1
    said = capsys.readouterr()
    assert said.err == f"error: {raised}\n" and not said.out
    assert main(KeyboardInterrupt()) == 130 and capsys.readouterr().err.startswith("interrupted; run")
    with pytest.raises(ZeroDivisionError):
        main(ZeroDivisionError())


def command(*words: object, **environment: str) -> subprocess.Popen:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen([sys.executable, "-m", *map(str, words)], cwd=REPO, env=os.environ | environment, **how)


COMMANDS = ["datasets.download", "datasets.curation", "utils.headless", "utils.chapters", "utils.export", "utils.audit"]
COMMANDS += ["utils.predict", "utils.predict.page", "utils.predict.calibrate"]
HEAVY = ("torch", "numpy", "pandas", "h5py", "cv2", "scipy", "matplotlib")


@pytest.mark.parametrize("module", COMMANDS)
def test_help_waits_for_nothing_heavy(module):
    ask = f"import runpy, sys\nsys.argv = ['-m', '--help']\ntry: runpy.run_module('{module}', run_name='__main__')\n"
    code = f"{ask}except SystemExit as end: print(end.code, [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("\n0 []\n"), done


def test_no_backend_of_matplotlib_ends_a_command_in_a_traceback():
    process = command("utils.report.plan", "--help", MPLBACKEND="nonsense")  # which imports what draws
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "usage: " in out and errors == ""


def test_what_libraries_remark_is_hidden_and_what_we_warn_of_is_not():
    @errors_in_one_line()
    def main():
        for module in ("PIL.TiffImagePlugin", "pydicom.filereader", "nibabel.nifti1", "utils.report.records"):
            warnings.warn_explicit(f"of {module}", UserWarning, "file.py", 1, module)
        logging.getLogger("nibabel.global").warning("pixdim")
        return 0

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert main() == 0
    assert [str(one.message) for one in seen] == ["of utils.report.records"]


NOTEBOOK = "notebooks/4_multitask.ipynb"
SPEAKING = [["datasets.download", "cheng", "--card"], ["utils.headless", NOTEBOOK, "--list"]]
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # of text files and of the output


@pytest.mark.parametrize("words", SPEAKING, ids=lambda words: words[0])
def test_a_terminal_without_some_letters_shows_the_others(words):
    process = command(*words, **ASCII)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and errors == "" and out.isascii() and len(out.splitlines()) > 3


@pytest.mark.parametrize("words", SPEAKING, ids=lambda words: words[0])
def test_a_reader_of_the_output_that_leaves_early_is_no_error(words):
    process = command(*words)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(300) == 141
