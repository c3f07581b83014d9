"""Runs a function of somebody else in a process of its own and, if need be, in another environment: `python worker.py
package.module:function`. It imports the standard library alone.

A line of JSON on the input is a path, one on the output an answer or an error. What the function prints is dropped.
"""

import importlib
import json
import os
import sys
from importlib import metadata
from types import ModuleType


def plain(answer: object) -> object:
    """An answer as JSON has it: the name of a class, {class: probability}, or a list of probabilities."""
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    if isinstance(answer, dict):
        return {str(name): float(p) for name, p in answer.items()}
    if isinstance(answer, list | tuple):
        return plain(answer[0]) if len(answer) == 1 or isinstance(answer[0], str) else [float(p) for p in answer]
    return str(answer)


def about(loaded: ModuleType) -> tuple[dict[str, str], list[str]]:
    """Name, licence and, where it states one, home page of the package that a module names as `PACKAGE`, or is of; and
    the files on which answers depend, its own and those of the package."""
    names = metadata.packages_distributions().get(loaded.__name__.partition(".")[0], [])
    name, file = getattr(loaded, "PACKAGE", next(iter(names), None)), loaded.__file__
    if name is None:
        return {}, [file]
    facts, files = metadata.metadata(name), [str(one.locate()) for one in metadata.files(name) or ()]
    stated = [facts.get("License-Expression"), facts.get("License")]
    stated += [f"its file {one}" for one in facts.get_all("License-File") or ()]
    licence = next(filter(None, stated), "none stated")
    home = facts.get("Home-page") or facts.get("Project-URL")
    found = {"package": f"{name} {facts['Version']}", "licence": licence} | ({"home": home} if home else {})
    return found, [file, *sorted(one for one in files if "__pycache__" not in one and os.path.isfile(one))]


def main() -> None:
    """Import the function, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path[0] = os.getcwd()  # not the folder of this file, whose modules have common names
    module, _, name = sys.argv[1].partition(":")
    try:
        loaded = importlib.import_module(module)
        function = getattr(loaded, name)
        facts, files = about(loaded)
        answers.write(json.dumps({"about": facts, "files": files}) + "\n")
        for line in sys.stdin:
            try:
                found = {"answer": plain(function(json.loads(line)))}
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(found) + "\n")
    except Exception as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")


if __name__ == "__main__":
    main()
