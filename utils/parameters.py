"""Reads the parameters of a notebook (names, defaults and help of its cell tagged `parameters`), typed and checked.

Written by hand, since papermill's own inspection is a regular expression that fails on `#` and `=` inside a value, and
only warns of an unknown name (`tests/notebooks/test_headless.py`).
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from datasets.catalog import REPO, DataError, lookup
from datasets.sources import require_utf8

EXAMPLE = {bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a dict"}


class Parameter(NamedTuple):
    """One parameter of a notebook: its default and the comment behind it."""

    default: Any
    help: str


def read_parameters(path: Path) -> dict[str, Parameter]:
    """Names, defaults and help of the cell tagged `parameters`; raises `DataError` where it holds anything else."""
    if not path.is_file():
        beside = sorted(path.parent.glob("*.ipynb")) or sorted((REPO / "notebooks").glob("*.ipynb"))
        lookup({str(p): p for p in beside}, str(path), "notebook")
    try:  # as JSON: nbformat takes seconds to import
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(f"{path} is not a notebook of format 4; name an .ipynb file") from None
    if not tagged:
        raise DataError(f"{path} has no cell tagged 'parameters'; tag the cell that sets its defaults")
    parameters = {}
    try:
        tokens = tokenize.generate_tokens(io.StringIO(tagged[0]).readline)
        comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
        for node in ast.parse(tagged[0]).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and node.value is not None:
                default = ast.literal_eval(node.value)
                parameters[target.id] = Parameter(default, comments.get(node.end_lineno, ""))
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise DataError(
            f"{path}: the cell tagged 'parameters' may only hold lines like `epochs = 3` ({error})"
        ) from None
    return parameters


def typed(name: str, text: str, default: Any) -> Any:
    """`text` from the command line as the type of `default`; raises `DataError` where it does not fit.

    A default of None takes any value. Lists and dictionaries are JSON or YAML; a tuple becomes a list, since
    papermill writes tuples as text.
    """
    require_utf8(Path(text), f"parameter '{name}': ")  # a notebook holds no other text
    wanted = list if isinstance(default, tuple) else type(default)
    try:
        if wanted in (str, int, float):
            return wanted(text)
        try:
            value = json.loads(text)  # first, because YAML 1.1 reads 1e-3 as text
        except ValueError:
            value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        value = text
    if default is None or type(value) is wanted:
        return value
    raise DataError(f"parameter '{name}' takes {EXAMPLE[wanted]}, such as {show(default)}; not '{text}'")


def show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def overrides(parameters: Mapping[str, Parameter], given: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Typed values of the `-p NAME VALUE` pairs; the last one of a name counts.

    A job chooses sizes and lengths, then `quick` false; where `quick` true follows, these numbers of the job are those
    of the notebook again.

    Raises `DataError` for an unknown name (with the nearest) or a value of the wrong type.
    """
    values = {name: typed(name, text, lookup(parameters, name, "parameter").default) for name, text in given}
    names = [name for name, _ in given]
    if values.get("quick") is True and names.count("quick") > 1:
        ours = names[: names.index("quick")]
        numbers = {name for name in ours if type(parameters[name].default) in (int, float)}
        values = {name: value for name, value in values.items() if name not in numbers - {*names[len(ours) :]}}
    return values


def path_kinds(name: str, help: str) -> list[str]:
    """Whether a parameter is the path of a "file", a "folder", either, or none: its name and comment tell."""
    return sorted(set(re.findall(r"(?<![a-z])(file|folder)s?(?![a-z])", f"{name} {help}")))


def located(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with absolute paths, since a kernel runs in the folder of its notebook and not in that of the caller.

    No paths are "" and the words that the comment of a parameter quotes, such as "imagenet".

    Raises `DataError` for a path where nothing is, so that a job ends before it trains.
    """
    made = dict(values)
    for name, value in values.items():
        kinds = path_kinds(name, parameters[name].help)
        words = re.findall(r'"[^"\s]*"', parameters[name].help)
        if not kinds or not isinstance(value, str) or not value or f'"{value}"' in words:
            continue
        path = Path(value).expanduser().absolute()
        if not path.is_file() and not ("folder" in kinds and path.is_dir()):
            other = f"; it also takes {', '.join(words)}" if words else ""
            raise DataError(f"parameter '{name}': there is no {' or '.join(kinds)} {path}{other}")
        made[name] = str(path)
    return made
