"""The leaderboard: what `python -m utils.audit` found out about models, of others and ours."""

import pandas as pd

from utils.report.records import Evidence
from utils.report.tables.common import NONE, format_ci

NEW = ("sensitivity", "specificity", "auc")
UNRELATED = "no relative in training"


def audits(evidence: Evidence) -> pd.DataFrame:
    """A row an audit, sorted by what it finds in new images: the mean of sensitivity and specificity, since a model
    that calls everything a tumour finds all of them. Those that lack one of the two come last."""
    rows = {}
    for name, record in evidence.audits.items():
        new = record["new"].get("together") or next(iter(record["new"].values()), dict.fromkeys(NEW))
        both = [new[rate]["value"] for rate in NEW[:2] if new[rate]]
        row = {"model": name} | {f"{rate}, new images %": format_ci(new[rate]) for rate in NEW}
        row["published test set %"] = format_ci(record["home"]["metrics"]["accuracy"])
        row["no relative in training %"] = format_ci(record["relatives"].get(UNRELATED, {}).get("accuracy"))
        answers = [line["answer"] for line in record["verdict"]]
        row |= {"trained on": record["trained_on"], "verdict": f"{answers.count('yes')} of {len(answers)}"}
        row["licence"] = record["about"].get("licence", NONE)
        rows[-sum(both) / 2 if len(both) == 2 else 1, name] = row
    return pd.DataFrame([rows[key] for key in sorted(rows)] or [{"model": "*not run yet*"}])


TABLES = {"audits": audits}
