"""Tables of the findings of curation: shortcuts, the nearest neighbour, and the shift between validation and test."""

import json
from collections.abc import Sequence

import pandas as pd

from datasets import catalog
from datasets.store import index
from utils.report.tables.common import NONE, cell, format_ci


def shortcut_accuracy(findings: Sequence[dict]) -> pd.DataFrame:
    """What can be predicted without anatomy, by patient: accuracy, and the AUC of tumour against none."""
    rows = []
    for found in findings:
        row = {"data set": found["dataset"], "orientation (linked images)": format_ci(found["orientation only"])}
        for view, title in (("file", "the file"), ("stored", "packed image"), ("levelled", "levelled image")):
            metrics = found["source only"].get(view)
            auc = metrics and metrics.get("tumour_auc")
            row[title] = (
                NONE if not metrics else format_ci(metrics["accuracy"]) + (f", AUC {auc['value']:.3f}" if auc else "")
            )
        rows.append(row)
    return pd.DataFrame(rows)


def nearest_neighbour(findings: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of the nearest neighbour on the publishers' uncropped images, for every set and protocol."""
    rows = []
    for found in findings:
        for protocol, result in found["nearest neighbour"].items():
            unseen = result["unseen"]
            classes = {c: format_ci(entry["recall"]) for c, entry in result["per_class"].items()}
            rows.append(
                {
                    "data set": found["dataset"],
                    "split": protocol,
                    "accuracy": cell(result),
                    "unseen images": f"{format_ci(unseen['accuracy'])} of {unseen['images']}" if unseen else NONE,
                    **{f"recall {c}": value for c, value in classes.items()},
                }
            )
    return pd.DataFrame(rows).fillna(NONE)


FEW = 4  # classes, each a column


def patient_folds() -> pd.DataFrame:
    """The committed patient folds, a row a data set, from `datasets/splits/facts.json`.

    Groups and the largest of them; images that have one alike in another fold; how many rows move when one group falls
    in two, with and without the table made before; of sets with few classes the images of each in the smallest and the
    largest fold.
    """
    rows = []
    for name, facts in json.loads((index.SPLITS / "facts.json").read_text()).items():
        if name not in catalog.CATALOG:
            continue  # counts of two sets together
        alike = next(value for fact, value in facts.items() if fact.startswith("images alike one in another fold"))
        counts = {fact: value for fact, value in facts.items() if fact.startswith("fold ")}
        classes = catalog.get(name).classes if len(catalog.get(name).classes) <= FEW else ()
        of_class = {c: [n for fact, n in counts.items() if fact.endswith(f", {c}")] for c in classes}
        rows.append(
            {
                "data set": name,
                "images": facts["images"],
                "groups": facts["groups"],
                "largest group": facts["largest group"],
                "images with a similar image in another fold": alike,
                "images that change fold when a group is divided": facts[
                    "most rows that move when a group splits in two"
                ],
                "the same if all folds are drawn anew": facts["most rows that move then without the table made before"],
                **{f"{c} a fold": f"{min(n)}–{max(n)}" for c, n in of_class.items() if n},
            }
        )
    return pd.DataFrame(rows).fillna(NONE)


def class_shift(found: dict) -> pd.DataFrame:
    """One set's validation and test set, a row a class: where they come from, and how well they can be separated.

    A set that has no published split is not linked, so it has no column for that."""
    rows = {}
    for c, pixels in found["shift"]["pixels"].items():
        network = found["shift"]["CustomCNN"].get(c, {})
        rows[c] = {
            f"linked to cheng, {part}": f"{100 * share.get(c, 0):.0f}"
            for part, share in found["linked share"].items()
            if part
        }
        rows[c] |= {f"1-NN recall, {part}": f"{100 * recall[c]:.0f}" for part, recall in found["1-NN recall"].items()}
        for name, values in (("pixels", pixels), ("CustomCNN", network)):
            auc, p = values.get("auc"), values.get("p")
            rows[c][f"AUC, {name} (p)"] = NONE if auc is None else f"{auc:.2f} ({p:.3f})"
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()
