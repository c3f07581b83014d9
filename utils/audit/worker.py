"""Answers about image files by a function of somebody else, in a process of its own and, if need be, in another
environment: `python worker.py package.module:function`. It needs the standard library alone.

A line of JSON on the input is a path; a line on the output is an answer or an error. What the function prints goes to
the log.
"""

import importlib
import json
import os
import sys
from importlib import metadata


def plain(answer: object) -> object:
    """An answer as JSON has it: the name of a class, {class: probability}, or a list of probabilities."""
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    if isinstance(answer, dict):
        return {str(getattr(name, "value", name)): float(p) for name, p in answer.items()}
    while (isinstance(answer, list | tuple) and len(answer) == 1) or (isinstance(answer, tuple) and _named(answer)):
        answer = answer[0]  # of a batch of one, or of a class with its probability
    return str(getattr(answer, "value", answer)) if not isinstance(answer, list | tuple) else [*map(float, answer)]


def _named(answer: tuple) -> bool:
    return bool(answer) and isinstance(answer[0], str)


def about(module: str) -> dict:
    """Name, version, licence and home page of the package that a module is installed with; nothing where it is none."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    if not names:
        return {}
    facts = metadata.metadata(names[0])
    pages = [facts.get("Home-page"), *(facts.get_all("Project-URL") or [])]
    licence = facts.get("License-Expression") or facts.get("License") or ", ".join(facts.get_all("License-File") or [])
    found = {"package": f"{names[0]} {facts['Version']}", "licence": licence or "none stated"}
    return found | {"home": next(filter(None, pages), f"https://pypi.org/project/{names[0]}/")}


def main() -> None:
    """Import the function, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path[0] = os.getcwd()  # not the folder of this file, whose modules have common names

    def say(**what: object) -> None:
        answers.write(json.dumps(what) + "\n")

    module, _, name = sys.argv[1].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        say(file=getattr(sys.modules[module.partition(".")[0]], "__file__", None), about=about(module))
    except BaseException as error:
        say(error=f"{type(error).__name__}: {error}")
        return
    for line in sys.stdin:
        try:
            say(answer=plain(function(json.loads(line))))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
