"""Fixtures of the tests of reporting."""

import pandas as pd
import pytest
from whole_records import whole

from utils.report.records import (
    HISTORY,
    METRICS,
    PREDICTIONS,
    VALIDATION,
    Evidence,
    load_evidence,
    write_predictions,
    write_record,
)
from utils.run import Run


@pytest.fixture
def put(tmp_path):
    """Writes a run to an empty folder of evidence and returns what is in it so far."""

    def write(run: Run, table: pd.DataFrame, history: pd.DataFrame | None = None, **record) -> Evidence:
        validation = record.pop("validation", None)
        record = whole(run, **record)
        folder = tmp_path / run.task / run.dataset / run.id
        write_predictions(folder / PREDICTIONS, table)
        if validation is not None:
            write_predictions(folder / VALIDATION, validation)
        if history is not None:
            numbered = {"epoch": range(1, len(history) + 1), "seconds": 1.0}  # what every history has
            history.assign(**numbered).to_csv(folder / HISTORY, index=False)
        write_record(folder / METRICS, record)
        return load_evidence(tmp_path)

    return write
