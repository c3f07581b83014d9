"""The tables of the README and the chapters, made of run records, never typed; `BLOCKS` names them.

Numbers are percent with 95 % CIs unless a column says otherwise; "–" means not run or not applicable.
"""

from collections.abc import Callable

import pandas as pd

from utils.report.records import Evidence
from utils.report.tables.classification import (
    cleaned,
    external_tests,
    published_or_patient,
    results_table,
    undone_shortcuts,
)
from utils.report.tables.common import find_run, format_ci
from utils.report.tables.copies import results_without_copies
from utils.report.tables.curation import class_shift, nearest_neighbour, patient_folds, shortcut_accuracy
from utils.report.tables.ensemble import ensemble_runs
from utils.report.tables.findings import by_finding, findings_runs
from utils.report.tables.localisation import (
    localisation_runs,
    pointing_groups,
    pointing_runs,
    tumours_elsewhere,
)
from utils.report.tables.multitask import ablation_runs, balance_effects, multitask_runs
from utils.report.tables.paired import against_the_probe
from utils.report.tables.projects import project_rows
from utils.report.tables.protocols import not_run, recall_by_class, reported_results
from utils.report.tables.recipes import recipe_values
from utils.report.tables.reported import reported_runs
from utils.report.tables.run_list import all_runs
from utils.report.tables.seeds import several_seeds
from utils.report.tables.segmentation import (
    dice_by_patient,
    gate_histories,
    mask_metrics,
    recipe_steps,
    regions,
    s2_segmentation,
    slices_or_patients,
)
from utils.report.tables.transfer import (
    backbone_runs,
    fine_tuning_runs,
    pretraining_gain,
    pretraining_pairs,
    probe_runs,
    recipe_runs,
)

__all__ = [
    "BLOCKS",
    "ablation_runs",
    "against_the_probe",
    "all_runs",
    "backbone_runs",
    "balance_effects",
    "by_finding",
    "class_shift",
    "cleaned",
    "dice_by_patient",
    "ensemble_runs",
    "external_tests",
    "find_run",
    "findings_runs",
    "fine_tuning_runs",
    "format_ci",
    "gate_histories",
    "localisation_runs",
    "mask_metrics",
    "multitask_runs",
    "nearest_neighbour",
    "not_run",
    "patient_folds",
    "pointing_groups",
    "pointing_runs",
    "pretraining_gain",
    "pretraining_pairs",
    "probe_runs",
    "project_rows",
    "published_or_patient",
    "recall_by_class",
    "recipe_runs",
    "recipe_steps",
    "recipe_values",
    "regions",
    "reported_results",
    "reported_runs",
    "results_table",
    "s2_segmentation",
    "several_seeds",
    "shortcut_accuracy",
    "slices_or_patients",
    "tumours_elsewhere",
    "undone_shortcuts",
]

# Every table by name.
BLOCKS: dict[str, Callable[[Evidence], pd.DataFrame]] = {
    "projects": project_rows,
    "reported": reported_results,
    "not_run": not_run,
    "recall": recall_by_class,
    "headline": lambda evidence: published_or_patient(evidence.headline),
    "cleaning": lambda evidence: cleaned(evidence.classifiers),
    "external": lambda evidence: external_tests(evidence.classifiers + evidence.transfer + evidence.localisation),
    "views": lambda evidence: undone_shortcuts(evidence.classifiers),
    "folds": lambda evidence: patient_folds(),
    "copies": results_without_copies,
    "shortcuts": lambda evidence: shortcut_accuracy(evidence.findings),
    "nearest": lambda evidence: nearest_neighbour(evidence.findings),
    "gap": lambda evidence: pd.concat(
        [class_shift(f) for f in evidence.findings if f["dataset"] == "sartaj"] or [pd.DataFrame()]
    ),
    "segmenters": lambda evidence: dice_by_patient(evidence.segmentation),
    "leak": lambda evidence: slices_or_patients(evidence.segmentation),
    "regions": lambda evidence: regions(evidence.segmentation),
    "steps": lambda evidence: recipe_steps(evidence.segmentation),
    "multitask": multitask_runs,
    "ablation": ablation_runs,
    "balances": balance_effects,
    "backbones": backbone_runs,
    "probes": probe_runs,
    "paired": against_the_probe,
    "fine_tunings": fine_tuning_runs,
    "seeds": several_seeds,
    "ensemble": ensemble_runs,
    "starts": pretraining_gain,
    "recipes": recipe_runs,
    "findings": findings_runs,
    "s1": lambda evidence: reported_runs(evidence, "s1"),
    "s4": lambda evidence: reported_runs(evidence, "s4"),
    "pointing": pointing_runs,
    "pointing_groups": pointing_groups,
    "localisation": localisation_runs,
    "tumours_elsewhere": tumours_elsewhere,
}
