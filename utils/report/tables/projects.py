"""The table of the README: one row for each of the five projects, what it reported and what we get."""

import pandas as pd

from utils.recipes.published import PROJECTS, published
from utils.report.records import Evidence
from utils.report.tables.common import BEST_PROBE, NONE, beside, cell, find_run, split_words
from utils.run import FULL_SIZE

BASELINES = {"linear probe, both": BEST_PROBE, "1-NN, both": "1-NN"}


def project_rows(evidence: Evidence) -> pd.DataFrame:
    """Who, what, on which data; reported; ours on the same split, ours by patient, and the baselines on both."""
    return pd.DataFrame([_row(project, evidence) for project in PROJECTS])


def _row(project: tuple, evidence: Evidence) -> dict[str, str]:
    name = f"[{project.title}]({project.url})" if project.url else project.title
    reported = published(project.source, project.model, project.dataset, project.protocol)
    row = {
        "project": f"{project.source.upper()}: {name}, {project.authors}; licence: {project.licence}",
        "task and data": f"{project.task}; {project.data}",
        "reported %": f"{project.model} {100 * reported[project.metric]:.1f}",
    }
    same, patient, ours = f"{NONE} ({project.missing})", NONE, (None, None)
    if not project.missing:
        of = {"dataset": project.dataset, "model": project.model, "recipe": project.recipe, "image_size": FULL_SIZE}
        ours = find_run(evidence.records, **of, split=project.protocol), _by_patient(evidence, **of)
        same = cell(ours[0], project.metric)
        if ours[1]:
            folds = split_words(ours[1]["run"], beside=project.protocol)
            patient = f"{cell(ours[1], project.metric)}, {folds}"
    baselines = {column: _both(evidence, project, model, *ours) for column, model in BASELINES.items()}
    return row | {"ours, same split": same, "ours, by patient": patient} | baselines


def _both(evidence: Evidence, project: tuple, model: str, same: dict | None, patient: dict | None) -> str:
    """A baseline on the same split, and by patient: on the fold of our run `patient`, or all of them; "–" where our run
    is on earlier folds and the baseline is not."""
    of = {"dataset": project.dataset, "model": model}
    on_same = find_run(evidence.classifiers, **of, split=project.protocol)
    by_patient = find_run(evidence.classifiers, **of, split="patient", fold=patient["run"]["fold"] if patient else None)
    return " / ".join(cell(beside(*pair), project.metric) for pair in ((same, on_same), (patient, by_patient)))


def _by_patient(evidence: Evidence, **of: object) -> dict | None:
    """The run over all patient folds, or that of fold 0 where the others are missing."""
    records = evidence.records + evidence.classifiers
    return find_run(records, **of, split="patient", fold=None) or find_run(records, **of, split="patient", fold=0)
