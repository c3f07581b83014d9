"""Runs a notebook unattended from top to bottom: on a cluster, in `make run`, in CI.

papermill executes it; this file adds parameters that are typed and checked before anything starts, errors that fit a
log, and exit codes that a scheduler can act on. `jobs/run.sh` calls it in every process of a job.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.catalog import REPO, DataError
from datasets.commands import errors_in_one_line
from datasets.sources import require_utf8
from utils.files import refusal, write_atomically
from utils.parameters import located, overrides, read_parameters, show

DONE, FAILED, USAGE, PAUSED = 0, 1, 2, 75  # 75 = EX_TEMPFAIL: the same command resumes
OUT_OF_MEMORY = "out of memory: try a smaller batch_size or image_size, or ask for more (`sbatch --mem`)"
NO_MEMORY = re.compile(
    r"MemoryError|out of memory|not enough memory|can't allocate memory|Cannot allocate memory", re.I
)
PATHS = ("BRAIN_MRI_OUTPUT", "BRAIN_MRI_DATA", "BRAIN_MRI_STOP")


def execute(path: Path, values: Mapping[str, Any], output: Path, html: bool) -> int:
    """Run the notebook at `path` with `values`, write the executed one to `output`; returns the exit code.

    The kernel is this interpreter, in the notebook's own folder as under Jupyter. In a distributed run each
    rank has its kernel, and only rank 0 writes and prints.
    """
    # jsonschema checks IRIs by it where it can be imported. No notebook has one, and its grammar takes a second to
    # build: three quarters of the time that papermill needs to be imported.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill  # here, so that --help and a misspelt name answer at once
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    first = os.environ.get("RANK", "0") == "0"
    saved = output if first else None
    _prepare_process()
    cells = _CellLog(first)
    paths = [str(p).replace("{", "{{").replace("}", "}}") for p in (path, output)]  # papermill formats its paths
    try:
        if saved:
            output.parent.mkdir(parents=True, exist_ok=True)
        # Not in $TMPDIR: a socket's path must stay short.
        with tempfile.TemporaryDirectory(prefix="brain-mri-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
            notebook = papermill.execute_notebook(
                paths[0],
                paths[1] if saved else None,
                parameters=dict(values),
                cwd=path.parent,
                kernel_name="python3",
                language="python",
                kernel_manager_class=_kernel_manager(sockets),
                shutdown_kernel="immediate",  # all that it leaves is on disk by then
                coalesce_streams=True,
                on_cell_execute=cells,
                progress_bar=False,
                stdout_file=sys.stdout if first else None,
                stderr_file=sys.stderr if first else None,
                start_timeout=300,  # a cluster's shared disk reads Python slowly when many jobs start at once
                iopub_timeout=60,  # so may the output of a cell arrive late
            )
        if saved:
            _close(notebook, output, html)
        return DONE
    except PapermillExecutionError as error:
        return _cell_failed(error, path, saved)
    except SystemExit as stop:  # raised by our handler of SIGTERM and SIGINT
        return _fail(f"{path.name} stopped by a signal {cells.where}", saved, stop.code)
    except DeadKernelError:
        return _fail(f"{path.name}: the kernel died {cells.where}; often {OUT_OF_MEMORY}", saved)
    except (RuntimeError, TimeoutError) as error:
        return _fail(f"{path.name}: the kernel does not answer {cells.where}: {error}", saved)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(refusal(output, error))


def _prepare_process() -> None:
    """Settle what the kernel inherits: paths that hold in its folder, no progress bars, signals."""
    for name in PATHS:
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    os.environ["BRAIN_MRI_HEADLESS"] = "1"
    for name in ("MPLBACKEND", "PYTHONOPTIMIZE"):  # figures go into the notebook; its checks of itself are asserts
        os.environ.pop(name, None)
    for library in ("papermill", "asyncio"):  # our errors already report what they warn of
        logging.getLogger(library).setLevel(logging.CRITICAL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # SLURM's warning: the batch script answers it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(number: int, _frame: Any) -> None:
    for repeated in (signal.SIGTERM, signal.SIGINT):  # SLURM and torchrun both send it
        signal.signal(repeated, signal.SIG_IGN)
    sys.exit(128 + number)


def _kernel_manager(sockets: str) -> type:
    """A kernel manager class that starts this interpreter, whatever a "python3" kernelspec points to.

    It talks to its kernel through files in the folder `sockets`: free ports, which Jupyter would look for, may be
    gone a moment later where a node starts several kernels at once.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        def __init__(self, **settings: Any) -> None:
            # without folders of kernelspecs the one of ipykernel is left, which is sys.executable
            own = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            super().__init__(**settings | own | {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[])})

    return ThisInterpreter


class _CellLog:
    """Called when a cell starts: a line with the time, so that a log shows where a run stands."""

    def __init__(self, speak: bool) -> None:
        self.speak, self.begin, self.where = speak, time.monotonic(), "before the first cell"

    def __call__(self, cell: Any, cell_index: int) -> None:
        self.where = f"in cell {cell_index + 1}"
        if self.speak:
            line = cell.source.strip().splitlines()[0]
            print(f"[{time.monotonic() - self.begin:7.1f} s] cell {cell_index + 1}: {line[:90]}", flush=True)


def _cell_failed(error: Any, path: Path, output: Path | None) -> int:
    from papermill.exceptions import strip_color

    if error.ename == "TrainingPaused":
        if output:
            print(f"paused: {error.evalue}\nThe same command resumes it.\nnotebook: {output}")
        return PAUSED
    print(strip_color("\n".join(error.traceback)), file=sys.stderr)
    what = f"{error.ename}: {strip_color(error.evalue)}".strip().splitlines()[0]
    if NO_MEMORY.search(f"{error.ename}: {error.evalue}"):
        what += f"; {OUT_OF_MEMORY}"
    return _fail(f"{path.name}, cell {error.cell_index + 1}: {what}", output)


def _fail(message: str, output: Path | None = None, code: int = FAILED) -> int:
    print(f"error: {message}", file=sys.stderr)
    if output:
        print(f"The notebook as far as it came: {output}", file=sys.stderr)
    return code


def _close(notebook: Any, output: Path, html: bool) -> None:
    """Print the text of cells tagged `summary` and the paths; write the HTML."""
    for cell in notebook.cells:
        if "summary" in cell.metadata.get("tags", []):
            print("".join(o.text for o in cell.outputs if o.get("name") == "stdout").rstrip())
    print(f"notebook: {output}")
    if html:
        path = output.with_suffix(".html")
        try:
            from nbconvert import HTMLExporter

            page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": output.stem}})
        except Exception as error:  # of any of the packages that it needs
            what = f"the notebook is whole, but no HTML can be made of it ({type(error).__name__}: {error})"
            raise DataError(f"{path}: {what}; run: make setup") from error
        write_atomically(path, page)
        print(f"HTML:     {path}")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.headless",
        description="Run a notebook unattended, with other parameters than its defaults if wanted.",
        epilog="exit codes: 0 done, 1 a cell failed or the kernel died, 2 wrong arguments, 75 training paused"
        " (the same command resumes it), 130 and 143 stopped by a signal",
    )
    value = (
        "set a parameter; VALUE is read as the type of its default (true, 3, 1e-3, ViT, '[1, 2]'); a path may be"
        " relative to the folder in which this command runs"
    )
    output = (
        "the executed notebook (default: runs/notebooks/NAME-TIME.ipynb below $BRAIN_MRI_OUTPUT or the"
        " repository; in a job of jobs/ JOB-PARAMETERS, their digest, instead of TIME)"
    )
    pair = {"nargs": 2, "action": "append", "default": [], "dest": "given", "metavar": ("NAME", "VALUE")}
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="with a cell tagged 'parameters'")
    parser.add_argument("-p", help=value, **pair)
    parser.add_argument("--output", type=Path, metavar="FILE.ipynb", help=output)
    parser.add_argument("--html", action="store_true", help="also write HTML beside the executed notebook")
    parser.add_argument("--list", action="store_true", help="print the parameters as they would be, and stop")
    return parser.parse_args(argv)


def _output_path(notebook: Path, given: Path | None, values: Mapping[str, Any]) -> Path:
    if given is None:
        root = Path(os.environ.get("BRAIN_MRI_OUTPUT") or REPO).expanduser()
        job, own = os.environ.get("SLURM_JOB_ID", ""), f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        if job and os.environ.get("BRAIN_MRI_CODE"):  # `jobs/run.sh`: where a run resumes it has its first name again
            own = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
        return (root / "runs/notebooks" / f"{'-'.join(filter(None, [notebook.stem, job, own]))}.ipynb").resolve()
    if given.suffix != ".ipynb":
        raise DataError(f"--output {given} must end in .ipynb")
    if given.resolve() == notebook.resolve():
        raise DataError(f"--output {given} is the notebook itself; name another file")
    return given.resolve()


@errors_in_one_line()
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = _arguments(argv)
    try:
        parameters = read_parameters(args.notebook)
        values = located(parameters, overrides(parameters, args.given))
        output = _output_path(args.notebook, args.output, values)
        for path in (args.notebook.resolve(), output):
            require_utf8(path)  # the executed notebook names both
    except (DataError, OSError) as error:
        return _fail(str(error), code=USAGE)
    if args.list:
        for name, parameter in parameters.items():
            value = show(values.get(name, parameter.default))
            note = f" [default: {show(parameter.default)}]" if name in values else ""
            print(f"{name:<14} {value:<18} {parameter.help}{note}".rstrip())
    try:
        for name in filter(None, (values.get(key) for key in ("dataset", "test_on"))):
            from datasets.store.index import require  # with pandas, for which nothing else waits

            require(name)
    except DataError as error:
        return _fail(str(error), code=USAGE)
    if args.list:
        return DONE
    return execute(args.notebook.resolve(), values, output, args.html)


if __name__ == "__main__":
    sys.exit(main())
