"""The tables of the README and the chapters, made of run records, never typed; `BLOCKS` names them.

Numbers are percent with 95 % CIs unless a column says otherwise; "–" means not run or not applicable.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd

from utils.report.records import Evidence

METRICS = ("accuracy", "macro_f1", "macro_f2", "macro_auc", "tumour_sensitivity", "tumour_specificity", "tumour_auc")
METRICS += ("macro_average_precision", "dice", "iou", "hd95")

# Every table by name: the `TABLES` of all files in this folder, so that a new file is all that a new table takes.
BLOCKS: dict[str, Callable[[Evidence], pd.DataFrame]] = {}
for _module in iter_modules(__path__):
    BLOCKS |= getattr(import_module(f"{__name__}.{_module.name}"), "TABLES", {})


def all_runs(evidence: Evidence) -> pd.DataFrame:
    """`saved_metrics/runs.csv`: a row a run; `saved_metrics/README.md` explains the columns."""
    columns = ["id", "chapter", "dataset", "split", "fold", "test_on", "model", "recipe", "pretrained", "seed"]
    columns += ["image_size", "n_filters", "view", "selection", "target", "epochs", "epoch_kept", "train_seconds"]
    columns += ["parameters", "trainable", "images", "groups"]
    columns += [metric + end for metric in METRICS for end in ("", "_low", "_high")]
    columns += ["reported", "finished", "git"]
    runs = evidence.runs.rename(columns={"task": "chapter"}).reindex(columns=columns)
    return runs.assign(train_seconds=runs.train_seconds.astype(float).round(1), git=runs.git.str[:12])
