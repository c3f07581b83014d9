"""What `python -m utils.predict` does: files in, answers out, as a table, JSON, figures and masks."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.catalog import DataError
from datasets.intake import bar
from utils.files import write_atomically
from utils.predict import saved_models
from utils.predict.answers import Answer, Asked, ask, require_alike
from utils.predict.drawing import table, write
from utils.predict.model import SavedModel
from utils.predict.scans import Scan, find
from utils.report.weights import NOTE

DONE, NOTHING, USAGE, SOME = 0, 1, 2, 3
LIST = "list"


def obey(given: Sequence[str], as_json: str | None, output: Path | None) -> int:
    """Answer about the files of `given`, which a model may come before, or list the models; returns the exit code.

    Args:
        as_json: file for the answers as JSON, "-" for the terminal.
        output: folder for figures and masks.
    """
    if given == [LIST]:
        print(f"{table(saved_models.rows())}\n\n* asked by default: the best on its validation patients. {NOTE}")
        return DONE
    try:
        name, paths = _model_and_files(given)
        models = saved_models.open_models(name)
        require_alike(models)
        scans, notes = find(paths, models[0].preparation.channels)
        _make_folders(as_json, output)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    answers, failed = answer_all(models, scans, output)
    _print(models, answers, failed, as_json)
    for line in failed.values():
        print(f"skipped: {line}", file=sys.stderr)
    return NOTHING if not answers else SOME if failed else DONE


def _model_and_files(given: Sequence[str]) -> tuple[str, list[Path]]:
    """The name of the model, and the files; the first argument is a model where no file has its name."""
    first, *rest = given
    if rest and saved_models.names_a_model(first):
        return first, [Path(text) for text in rest]
    if not rest and not Path(first).exists():
        raise DataError(f"{first}: no such file or folder; name at least one FILE")
    return saved_models.BEST, [Path(text) for text in given]


def _make_folders(as_json: str | None, output: Path | None) -> None:
    """Make the folders that are written to; raise `DataError` where that is impossible, before anything is computed."""
    to = Path(as_json) if as_json and as_json != "-" else None
    if to and to.is_dir():
        raise DataError(f"--json {to}: a folder; name a file")
    for option, folder in (("--json", to and to.parent), ("--output", output)):
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{option}: {folder} cannot be made a folder ({error.strerror}); name another") from error


def answer_all(
    models: Sequence[SavedModel], scans: Sequence[Scan], output: Path | None = None
) -> tuple[list[Answer], dict[str, str]]:
    """Answers, and why the other scans have none, by name. One scan is in memory at a time.

    Args:
        output: folder that figures and masks are written to.
    """
    answers: list[Answer] = []
    failed: dict[str, str] = {}
    with bar(len(scans), "predicting", "scans") as progress:
        for scan in scans:
            try:
                asked: Asked = ask(models, scan)
                if output:
                    write(models[0], scan, asked, output)
                answers.append(asked.answer)
            except DataError as error:
                failed[scan.name] = str(error)
            progress.update(1)
    return answers, failed


def _print(models: Sequence[SavedModel], answers: Sequence[Answer], failed: dict[str, str], to: str | None) -> None:
    errors = [{"file": name, "error": line} for name, line in failed.items()]
    report = {"models": [model.name for model in models], "note": NOTE}
    content = json.dumps(report | {"answers": [a.as_json() for a in answers], "errors": errors}, indent=1)
    if to == "-":
        print(content)
        return
    if to:
        write_atomically(Path(to), content + "\n")
    print(f"asked: {', '.join(model.name for model in models)}")
    if answers:
        print(table([answer.row() for answer in answers]))
    for answer in answers:
        for warning in answer.warnings:
            print(f"warning: {answer.file}: {warning}")
        for path in answer.written:
            print(f"written: {path}")
    print(NOTE)
