"""`python -m utils.predict.calibrate MODEL`: temperature, threshold and familiarity of a saved model, from validation.

They go to the weights, and what they are worth to `saved_metrics/calibration/`, which chapter 9 shows.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.commands import errors_in_one_line


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a model in saved_models/, or 'best'")
    parser.add_argument("--audit", type=Path, metavar="FILE.json", help="do no more than note its audit on its card")
    about = "do no more than ask it about new images, photographs, X-rays, noise and the phantom"
    parser.add_argument(
        "--survey", action="store_true", help=f"{about}, and write the verdicts to saved_metrics/survey/ and its card"
    )
    args = parser.parse_args(argv)
    from datasets.reading import read_json  # and networks, for which --help need not wait
    from utils.predict import calibration, survey
    from utils.predict.model import open_model

    model = open_model(args.model)
    if args.audit:
        calibration.note_elsewhere(model.folder, read_json(args.audit, needs=("model", "quick", "new")))
    elif args.survey:
        print(survey.survey(model))
    else:
        print(calibration.calibrate(model).read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
