"""Executes notebooks in place: their outputs are made anew, everything else in them stays as it is.

An image gets as its alternative text, for readers who do not see it, the first sentence of **What you see** below it.

`make chapters` does so with all of them in quick mode on the phantom, `make tables` with the chapter of results.
Execution itself is that of `headless.py`, so it prints a line a cell.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from datasets.catalog import REPO, DataError
from datasets.commands import errors_in_one_line
from utils import headless
from utils.files import write_atomically

SEEN = re.compile(r"\*\*What you see\b[^*]*\*\*(?: \(phantom\))?\.? (.+?\.)(?=\s|$)", re.S)


def refresh(path: Path, root: Path = REPO) -> int:
    """Execute a notebook with its own defaults and write its outputs into it; returns the exit code of `headless`.

    A notebook that fails stays as it was. It reads the evidence of `root`; what it writes, and the executed notebook as
    far as it came, lie in `root/runs/chapters/NAME`, emptied before, so that no earlier checkpoint is taken up.

    Raises `DataError`: an output names a folder of this machine.
    """
    scratch = root / "runs/chapters" / path.stem
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in ("saved_metrics", "saved_models"):  # what chapters read of the repository
        (scratch / name).symlink_to(root / name)
    os.environ["BRAIN_MRI_OUTPUT"] = str(scratch)
    code = headless.execute(path.resolve(), {}, scratch / path.name, html=False)
    if code == headless.DONE:
        notebook, executed = (json.loads(file.read_text(encoding="utf-8")) for file in (path, scratch / path.name))
        for cell, done in zip(notebook["cells"], executed["cells"], strict=True):
            if cell["cell_type"] == "code":  # without warnings, which name files of the machine
                outputs = [output for output in done["outputs"] if output.get("name") != "stderr"]
                cell |= {"execution_count": done["execution_count"], "outputs": outputs}
        describe_images(notebook)
        if named := machine_paths(notebook):
            raise DataError(f"{path.name}, cell {named[0]}: its output names a folder of this machine; print no paths")
        write_atomically(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return code


def describe_images(notebook: dict) -> None:
    """Give each image among the outputs its alternative text, from the cell below it; without one it keeps none."""
    for cell, below in pairwise(notebook["cells"]):
        if seen := SEEN.match("".join(below["source"])):
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    output["metadata"]["image/png"] = {"alt": re.sub(r"[*`$]", "", seen[1])}


def machine_paths(notebook: dict) -> list[int]:
    """Numbers (from 1) of the cells with an output that names a folder of this machine; images are not looked at."""
    folders = {str(REPO), str(Path.home()), tempfile.gettempdir(), sys.prefix, "/home", "/root", "/tmp", "/Users"}
    somewhere = re.compile("|".join(rf"(?<![\w<.-]){re.escape(folder)}/" for folder in folders - {"/"}))
    found = []
    for number, cell in enumerate(notebook["cells"], start=1):
        texts = []
        for output in cell.get("outputs", []):
            texts += [content for kind, content in output.get("data", {}).items() if not kind.startswith("image/")]
            texts += [output.get("text", ""), *output.get("traceback", [])]
        if any(somewhere.search("".join(text)) for text in texts):
            found.append(number)
    return found


@errors_in_one_line(ValueError)
def main(argv: list[str] | None = None) -> int:
    """Refresh the notebooks named, or all; stops at the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m utils.chapters", description="Execute notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of notebooks/")
    paths = parser.parse_args(argv).notebooks or sorted((REPO / "notebooks").glob("*.ipynb"))
    for number, path in enumerate(paths, start=1):
        print(f"{path.name} ({number} of {len(paths)})", flush=True)
        if (code := refresh(path)) != headless.DONE:
            return code
    return headless.DONE


if __name__ == "__main__":
    sys.exit(main())
