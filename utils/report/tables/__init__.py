"""The tables of the README and the chapters, made of run records, never typed; `BLOCKS` names them.

Numbers are percent with 95 % CIs unless a column says otherwise; "–" means not run or not applicable.
"""

from collections.abc import Callable

import pandas as pd

from utils.report.records import Evidence
from utils.report.tables import classification, reported, segmentation, transfer

METRICS = ("accuracy", "macro_f1", "macro_f2", "macro_auc", "tumour_sensitivity", "tumour_specificity", "tumour_auc")
METRICS += ("macro_average_precision", "dice", "iou", "hd95")

# Every table by name.
BLOCKS: dict[str, Callable[[Evidence], pd.DataFrame]] = {
    "projects": reported.project_rows,
    "reported": reported.reported_results,
    "same_images": classification.same_images,
    "headline": classification.published_or_patient,
    "cleaning": classification.cleaned,
    "external": classification.external_tests,
    "views": classification.undone_shortcuts,
    "copies": classification.results_without_copies,
    "shortcuts": lambda evidence: classification.shortcut_accuracy(evidence.curation),
    "segmenters": segmentation.dice_by_patient,
    "leak": segmentation.slices_or_patients,
    "regions": segmentation.regions,
    "steps": segmentation.recipe_steps,
    "multitask": segmentation.multitask_runs,
    "ablation": segmentation.ablation_runs,
    "backbones": transfer.backbone_runs,
    "probes": transfer.probe_runs,
    "paired": transfer.against_the_probe,
    "fine_tunings": transfer.fine_tuning_runs,
    "ensemble": transfer.ensemble_runs,
    "starts": transfer.pretraining_gain,
    "recipes": transfer.recipe_runs,
    "findings": segmentation.findings_runs,
    "pointing": segmentation.pointing_runs,
    "localisation": segmentation.localisation_runs,
}


def all_runs(evidence: Evidence) -> pd.DataFrame:
    """`saved_metrics/runs.csv`: a row a run; `saved_metrics/README.md` explains the columns."""
    columns = ["id", "chapter", "dataset", "split", "fold", "test_on", "model", "recipe", "pretrained", "seed"]
    columns += ["image_size", "n_filters", "view", "selection", "target", "epochs", "epoch_kept", "train_seconds"]
    columns += ["parameters", "trainable", "images", "groups"]
    columns += [metric + end for metric in METRICS for end in ("", "_low", "_high")]
    columns += ["reported", "finished", "git"]
    runs = evidence.runs.rename(columns={"task": "chapter"}).reindex(columns=columns)
    return runs.assign(train_seconds=runs.train_seconds.astype(float).round(1), git=runs.git.str[:12])
