"""Tables of the findings of curation: shortcuts, the nearest neighbour, and the shift between validation and test."""

from collections.abc import Sequence

import pandas as pd

from utils.reporting.tables.common import NONE, cell, format_ci


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


def class_shift(found: dict) -> pd.DataFrame:
    """One set's validation and test set, a row a class: where they come from, and how well they can be separated."""
    rows = {}
    for c, pixels in found["shift"]["pixels"].items():
        network = found["shift"]["CustomCNN"].get(c, {})
        rows[c] = {
            f"linked to cheng, {part}": f"{100 * share.get(c, 0):.0f}" for part, share in found["linked share"].items()
        }
        rows[c] |= {f"1-NN recall, {part}": f"{100 * recall[c]:.0f}" for part, recall in found["1-NN recall"].items()}
        for name, values in (("pixels", pixels), ("CustomCNN", network)):
            auc, p = values.get("auc"), values.get("p")
            rows[c][f"AUC, {name} (p)"] = NONE if auc is None else f"{auc:.2f} ({p:.3f})"
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()
