"""`python -m utils.predict`: files in, answers out, as a table, JSON, figures and masks."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from datasets.catalog import DataError
from datasets.commands import NOTE, errors_in_one_line, table

DONE, NOTHING, USAGE, SOME = 0, 1, 2, 3


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.predict",
        description=f"Ask a saved model about images, DICOM series and NIfTI volumes. {NOTE}",
        epilog="`python -m utils.predict list` shows the models. "
        "Exit codes: 0 all answered, 1 nothing could be answered, 2 wrong arguments, 3 some files were skipped",
    )
    parser.add_argument(
        "given",
        nargs="+",
        metavar="[MODEL] FILE",
        help="MODEL: a name from the list, a folder of a model, hf-hub:OWNER/NAME, or 'best', the default. FILE: an "
        "image, a NIfTI volume, a DICOM file (those of one series are one scan) or a folder",
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    outputs = "a figure of each answer, masks of volumes as NIfTI and of DICOM files as DICOM SEG"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=outputs)
    return parser.parse_args(argv)


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code. One scan is in memory at a time."""
    args = _arguments(argv)
    from utils.saved_models import BEST, names_a_model, rows  # with pandas, for which --help need not wait

    if args.given == ["list"]:
        print(f"{table(rows())}\n\n* asked by default. {NOTE}")
        return DONE
    from utils.predict import prepare, verdict  # with torch, for which the list need not wait
    from utils.predict.model import open_model

    try:
        first, *files = args.given
        if not (files and names_a_model(first)):
            if not files and not Path(first).exists():
                raise DataError(f"{first}: no such file or folder; name at least one FILE")
            first, files = BEST, args.given
        model = open_model(first)
        scans, notes = prepare.find([Path(file) for file in files], model.preparation.channels)
        if args.output:
            args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: {error.filename}: no folder can be made there ({error.strerror}); name another", file=sys.stderr)
        return USAGE
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    answers, failed = [], {}
    for scan in tqdm(scans, "predicting", disable=None, leave=False):
        try:
            asked = verdict.ask(model, scan)
            if args.output:
                verdict.write(model, scan, asked, args.output)
            answers.append(asked.answer)
        except DataError as error:
            failed[scan.name] = str(error)
    if args.json:
        report = {"model": model.name, "about": model.about, "note": NOTE}
        report["answers"] = [asdict(answer) for answer in answers]
        report["errors"] = [{"file": name, "error": line} for name, line in failed.items()]
        print(json.dumps(report, indent=1))
    else:
        print(f"asked: {model.name}")
        if answers:
            print(table([answer.row() for answer in answers]))
        for answer in answers:
            for warning in answer.warnings:
                print(f"warning: {answer.file}: {warning}")
            for path in answer.written:
                print(f"written: {path}")
        print(*model.about, NOTE, sep="\n")
    for line in failed.values():
        print(f"skipped: {line}", file=sys.stderr)
    return NOTHING if not answers else SOME if failed else DONE


if __name__ == "__main__":
    sys.exit(main())
