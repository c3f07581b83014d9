"""What the model that is asked by default answers about images of every kind, by the record of its survey."""

import pandas as pd

from utils.evaluation.classification import FEWEST
from utils.report.records import Evidence, read_whole
from utils.report.tables.common import NONE, format_ci
from utils.saved_models import best


def verdicts(evidence: Evidence) -> pd.DataFrame:
    """A row a kind of image (`utils/predict/survey.py`): how many were asked about, and the share of each verdict."""
    paths = [folder / "survey" / f"{best().name}.json" for folder in evidence.folders]
    found = next((read_whole(path)["asked"] for path in paths if path.is_file()), {})
    rows = [
        {"asked about": kind, "images": counted.pop("images")}
        | {f"{name} %": format_ci(one) if one["images"] >= FEWEST else NONE for name, one in counted.items()}
        for kind, counted in found.items()
    ]
    return pd.DataFrame(rows or [{"asked about": "*not run yet*"}])


TABLES = {"verdicts": verdicts}
