"""`python -m utils.report.baselines DATASET …`: majority class and nearest neighbour of a data set, every split.

The chapters make the same records beside the networks that they train; this command makes them alone, in minutes.
"""

import argparse
import sys
from collections.abc import Sequence

from datasets.labels import CLASS_TARGETS
from utils.commands import errors_in_one_line
from utils.evaluation.baselines import BASELINES, baseline
from utils.evaluation.classification import evaluate, run_table, unseen
from utils.report.probes import splits_of
from utils.report.records import save_run
from utils.run import Run
from utils.training.data import load_data


def make_baselines(name: str, target: str = "label") -> list[Run]:
    """Write the evidence of every baseline under every split of data set `name`; returns the runs.

    Args:
        target: what is asked of an image, one of `labels.CLASS_TARGETS`.
    """
    made = []
    for split in splits_of(name):
        for kind in BASELINES:
            run = Run(dataset=name, target=target, **split).baseline(kind)
            data = load_data(run)
            table = run_table(data, baseline(kind, data.train_val, data.test))
            result = evaluate(table, data.test_classes) | {"unseen": unseen(table, data.split.seen)}
            save_run(run, result, table, sizes=data.sizes)
            made.append(run)
            print(f"{run.id}: accuracy {100 * result['metrics']['accuracy']['value']:.1f} %", flush=True)
    return made


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line: write the baselines of some data sets."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.baselines", description=main.__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="brain-tumor-mri, sartaj, cheng, …")
    parser.add_argument("--target", choices=CLASS_TARGETS, default="label", help="what is asked of an image (label)")
    args = parser.parse_args(argv)
    for name in args.datasets:
        make_baselines(name, args.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
