"""What the records of calibration say, as tables, a figure and a sentence for chapter 9."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from datasets.reading import read_json
from utils.reporting.runs import output_root
from utils.reporting.tables.common import NONE, format_ci

TEST = "test set (false alarms)"
BARS = 45  # bins of a distance


def records(folder: Path | None = None) -> list[dict]:
    """All records in `saved_metrics/calibration/`, by the name of the model."""
    folder = folder or output_root() / "saved_metrics/calibration"
    return [read_json(path) for path in sorted(folder.glob("*.json"))]


def calibration_table(found: list[dict] | None = None) -> pd.DataFrame:
    """A row a calibrated classifier: temperature, ECE of the test set in percent, what its threshold gives there."""
    rows = {}
    for record in found if found is not None else records():
        if "calibration" not in record:
            continue
        entry = record["calibration"]
        errors, at = entry["ece"]["test"], entry.get("at_threshold_on_test")
        rows[record["model"]] = {
            "T": f"{entry['temperature']:.2f}",
            "ECE before": f"{100 * errors['before']:.1f}",
            "ECE after": f"{100 * errors['after']:.1f}",
            "threshold": f"{entry['threshold']:.2f}" if at else NONE,
            "sensitivity": format_ci(at["sensitivity"]) if at else NONE,
            "specificity": format_ci(at["specificity"]) if at else NONE,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _shares(record: dict) -> dict[str, dict]:
    return {TEST: record["familiarity"]["test"]} | record["familiarity"]["strangers"]


def detection_table(found: list[dict] | None = None) -> pd.DataFrame:
    """Kind of image × model: the share called unlike the training images, in percent with 95 % CI."""
    found = found if found is not None else records()
    columns = {r["model"]: {kind: format_ci(entry) for kind, entry in _shares(r).items()} for r in found}
    return pd.DataFrame(columns).fillna(NONE)


def detections(found: list[dict] | None = None) -> Figure:
    """The detection table as points with intervals, a row of them for each kind of image."""
    found = [r for r in (found if found is not None else records()) if r["familiarity"]["strangers"]]
    kinds = list(dict.fromkeys(kind for record in found for kind in _shares(record)))
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(kinds) + 1.4))
    for k, record in enumerate(found):
        entries = _shares(record)
        places = [i + (k - (len(found) - 1) / 2) * 0.6 / len(found) for i, kind in enumerate(kinds) if kind in entries]
        values = (
            np.array([[e["value"], e["low"], e["high"]] for e in (entries[x] for x in kinds if x in entries)]) * 100
        )
        errors = np.abs(values[:, 1:] - values[:, :1]).T
        axis.errorbar(values[:, 0], places, xerr=errors, fmt="o", markersize=4, capsize=2, label=record["model"])
    axis.set(xlabel="% called unlike the training images", xlim=(-3, 103), yticks=range(len(kinds)), yticklabels=kinds)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="lower center", fontsize=7, bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    return figure


def distances(found: Mapping[str, np.ndarray], threshold: float) -> Figure:
    """Distributions of distances by kind of image, with the threshold; the last bin holds what lies beyond, too."""
    everything = np.concatenate(list(found.values()))
    bins = np.linspace(0, np.quantile(everything, 0.98), BARS)
    figure, axis = plt.subplots(figsize=(8, 3.2))
    for kind, values in found.items():
        share = np.full(len(values), 100 / len(values))
        axis.hist(np.minimum(values, bins[-1]), bins, alpha=0.6, label=f"{kind} ({len(values)})", weights=share)
    axis.axvline(threshold, color="black", linestyle=":", label="threshold")
    axis.set(xlabel="distance from the training images", ylabel="% of its kind")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    figure.tight_layout()
    return figure


def summary(found: list[dict] | None = None) -> str:
    """What the warning of the models detects, in a sentence; empty without records."""
    found = [r for r in (found if found is not None else records()) if r["familiarity"]["strangers"]]
    if not found:
        return ""
    kinds = list(dict.fromkeys(kind for record in found for kind in record["familiarity"]["strangers"]))
    values = {
        k: [r["familiarity"]["strangers"][k]["value"] for r in found if k in r["familiarity"]["strangers"]]
        for k in kinds
    }
    always = [kind for kind, shares in values.items() if min(shares) >= 0.95]
    rarely = [kind for kind, shares in values.items() if max(shares) < 0.5]
    models = "The one model measured flags" if len(found) == 1 else f"Each of the {len(found)} models measured flags"
    text = f"{models} at least 95 % of: {'; '.join(always)}." if always else "No kind of image is always flagged."
    return text + (f" Fewer than half are flagged of: {'; '.join(rarely)}." if rarely else "")
