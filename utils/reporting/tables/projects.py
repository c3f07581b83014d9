"""The table of the README: one row for each of the five projects, what it reported and what we get."""

import pandas as pd

from utils.recipes.projects import PROJECTS, Project
from utils.recipes.published import published
from utils.reporting.records import Evidence
from utils.reporting.runs import FULL_SIZE
from utils.reporting.tables.common import NONE, cell, find_run, format_ci, split_words


def project_rows(evidence: Evidence) -> pd.DataFrame:
    """Who, what, on which data; reported; ours on the same split, ours by patient, and 1-NN on both."""
    return pd.DataFrame([_row(project, evidence) for project in PROJECTS])


def _row(project: Project, evidence: Evidence) -> dict[str, str]:
    name = f"[{project.title}]({project.url})" if project.url else project.title
    reported = published(project.source, project.model, project.dataset, project.protocol)
    row = {
        "project": f"{project.source.upper()}: {name}, {project.authors}; licence: {project.licence}",
        "task and data": f"{project.task}; {project.data}",
        "reported %": f"{project.model} {100 * reported[project.metric]:.1f}",
    }
    nearest = {"dataset": project.dataset, "model": "1-NN", "recipe": "none"}
    beside = find_run(evidence.records, **nearest, split=project.protocol), _by_patient(evidence, **nearest)
    pair = " / ".join(format_ci(r["metrics"][project.metric]) if r else NONE for r in beside)
    pair = pair if any(beside) else NONE
    if project.missing:
        return row | {"ours, same split": f"{NONE} ({project.missing})", "ours, by patient": NONE, "1-NN, both": pair}
    of = {"dataset": project.dataset, "model": project.model, "recipe": project.recipe, "image_size": FULL_SIZE}
    same, patient = find_run(evidence.records, **of, split=project.protocol), _by_patient(evidence, **of)
    return row | {
        "ours, same split": cell(same, project.metric),
        "ours, by patient": f"{cell(patient, project.metric)}, {split_words(patient['run'])}" if patient else NONE,
        "1-NN, both": pair,
    }


def _by_patient(evidence: Evidence, **of: object) -> dict | None:
    """The run over all patient folds, or that of fold 0 where the others are missing."""
    return find_run(evidence.records, **of, split="patient", fold=None) or find_run(
        evidence.records, **of, split="patient", fold=0
    )
