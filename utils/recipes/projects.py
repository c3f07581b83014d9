"""Reads the five student projects that are rebuilt here from `projects.csv`: authors, licences, headline results."""

import csv
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("projects.csv")


@dataclass(frozen=True)
class Project:
    """One project.

    Attributes:
        title, authors, url, licence: as its repository states them; "" where nothing was found.
        task, data: short descriptions.
        source, model, dataset, protocol, metric: of its headline, a row of `published.csv`.
        recipe: of our run that answers it; missing: the reason where there is none.
    """

    source: str
    title: str
    authors: str
    url: str
    licence: str
    task: str
    data: str
    model: str
    dataset: str
    protocol: str
    metric: str
    recipe: str
    missing: str


PROJECTS = tuple(Project(**row) for row in csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
