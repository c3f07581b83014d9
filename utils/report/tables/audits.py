"""What models are worth: those that `python -m utils.audit` was asked about, the saved ones by their cards, and what
the default one answers, by the record of its survey."""

import pandas as pd

from datasets.catalog import REPO
from utils.evaluation.classification import FEWEST
from utils.report.records import Evidence, read_whole
from utils.report.tables.common import NONE, format_ci
from utils.saved_models import best, cards, rows

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
        alone = record["relatives"].get(UNRELATED, {"images": 0})
        row["no relative in training %"] = format_ci(alone["accuracy"]) if alone["images"] >= FEWEST else NONE
        answers = [line["answer"] for line in record["verdict"]]
        row |= {"trained on": record["trained_on"], "verdict": f"{answers.count('yes')} of {len(answers)}"}
        row["licence"] = record["about"].get("licence", NONE)
        rows[-sum(both) / 2 if len(both) == 2 else 1, name] = row
    return pd.DataFrame([rows[key] for key in sorted(rows)] or [{"model": "*not run yet*"}])


def models(evidence: Evidence) -> pd.DataFrame:
    """A row a committed model, by what it answers: how it scored at home, and what it found in other collections."""
    found = []
    for (folder, card), row in zip(cards(), rows(), strict=True):
        if REPO in folder.parents:
            link = f"[{folder.name}]({folder.relative_to(REPO / 'saved_models')}/card.json)"
            home = NONE if card["trained_on"]["test_on"] else row["test result"]
            line = {"answers": row["answers"], "model": link, "tested": row["tested"], "at home": home}
            line |= {f"{rate} elsewhere, %": format_ci(card.get("elsewhere", {}).get(rate)) for rate in NEW[:2]}
            found.append(line | {"MB": row["MB"]})
    return pd.DataFrame(found).sort_values(["answers", "model"], ignore_index=True)


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


TABLES = {"audits": audits, "models": models, "verdicts": verdicts}
