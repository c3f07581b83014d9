"""Tables of several findings an image."""

from collections.abc import Mapping

import pandas as pd

from utils.report.records import Evidence
from utils.report.tables.common import NONE, format_ci, is_pooled_elsewhere, tested

SHOWN = {"AUC": "auc", "average precision": "average_precision", "sensitivity %": "sensitivity"}
SHOWN |= {"specificity %": "specificity", "precision %": "precision"}


def by_finding(per_class: Mapping[str, Mapping]) -> pd.DataFrame:
    """A row a finding: images that show it, AUC and average precision, and what the threshold of validation gives."""
    rows = {
        finding: {"images": entry["images"]}
        | {column: format_ci(entry[metric], percent=column.endswith("%")) for column, metric in SHOWN.items()}
        for finding, entry in per_class.items()
    }
    return pd.DataFrame(rows).T


def findings_runs(evidence: Evidence) -> pd.DataFrame:
    """A row a run: mean AUC and mean average precision over the findings."""
    records = [r for r in evidence.of("findings") if not is_pooled_elsewhere(r, evidence.of("findings"))]
    return pd.DataFrame(
        {
            "data set": r["run"]["dataset"],
            "split": tested(r),
            "network": r["run"]["model"],
            "recipe": r["run"]["recipe"],
            "pixels": r["run"]["image_size"],
            "epochs": r["training"]["epochs"] if r["training"] else NONE,
            "mean AUC": format_ci(r["metrics"]["macro_auc"], percent=False),
            "mean average precision": format_ci(r["metrics"]["macro_average_precision"], percent=False),
            "test images": r["images"],
            "patients": r["groups"],
        }
        for r in sorted(records, key=lambda r: (r["run"]["dataset"], -(r["metrics"]["macro_auc"]["value"] or 0)))
    )
