"""What the records of calibration say, as tables, a figure and a sentence for chapter 9."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from datasets.reading import read_json
from utils.report.figures.common import PAGE
from utils.report.tables.common import NONE, format_ci
from utils.run import output_root

TEST = "test set (false alarms)"
BARS = 45  # bins of a distance
ALWAYS = 0.95  # share from which on a kind of image counts as flagged


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
    """The detection table as a map, model × kind of image: the darker, the more is called unlike the training."""
    found = [r for r in (found if found is not None else records()) if r["familiarity"]["strangers"]]
    if not found:
        figure = plt.figure(figsize=(3, 0.6))
        figure.text(0.5, 0.5, "not measured yet", ha="center", va="center")
        return figure
    kinds = list(dict.fromkeys(kind for record in found for kind in _shares(record)))
    shares = np.array([[100 * _shares(r).get(kind, {}).get("value", np.nan) for kind in kinds] for r in found])
    figure, axis = plt.subplots(figsize=(PAGE, 1.6 + 0.36 * len(found)))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in np.argwhere(np.isfinite(shares)):
        value = shares[row, column]
        axis.text(
            column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 60 else "black", size=8
        )
    axis.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(found)), [_two_lines(record["model"]) for record in found])
    axis.axvline(0.5, color="black", linewidth=1)  # false alarms before it, detection behind
    axis.set_title("% called unlike the training images")
    return figure


def _two_lines(name: str) -> str:
    """The name of a run as a label: data set and split above network and recipe, without the seed."""
    dataset, split, *others = name.split(".")
    return f"{dataset}.{split}\n{'.'.join(others[:-1])}"


def eight_bits_table(path: Path | None = None) -> pd.DataFrame:
    """A row a classifier: size, latency and test accuracy as exported with 32 bits and with 8."""
    path = path or output_root() / "saved_metrics/benchmarks/int8.json"
    if not path.is_file():
        return pd.DataFrame()
    rows = {}
    for name, facts in read_json(path, needs=["models"])["models"].items():
        pairs = {"MB": "{:.1f}", "ms": "{:.1f}", "accuracy": "{:.1%}"}
        rows[name] = {
            key: " → ".join(how.format(facts[k][key]) for k in ("fp32", "int8")) for key, how in pairs.items()
        }
        rows[name] |= {"images": facts["int8"]["images"], "kept": "yes" if facts["int8"]["kept"] else "no"}
    return pd.DataFrame.from_dict(rows, orient="index")


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
    """What the warning of the models detects, in a few sentences; empty without records.

    A kind of image counts among the models that were measured on it, which need not be all. False alarms are those of
    these models; one that was measured on its own test set alone is named apart.
    """
    everything = found if found is not None else records()
    found = [record for record in everything if record["familiarity"]["strangers"]]
    if not found:
        return ""
    kinds = list(dict.fromkeys(kind for record in found for kind in record["familiarity"]["strangers"]))
    measured = [record["familiarity"]["strangers"] for record in found]
    caught = {kind: [entry[kind]["value"] >= ALWAYS for entry in measured if kind in entry] for kind in kinds}
    said = [
        f"{_images_of(kind)}: {sum(who)}{f' of {len(who)} measured' * (len(who) < len(found))}"
        for kind, who in sorted(caught.items(), key=lambda item: -sum(item[1]))
    ]
    alarms = {record["model"]: 100 * record["familiarity"]["test"]["value"] for record in everything}
    of_these = [alarms[record["model"]] for record in found]
    alone = [name for name in alarms if name not in {record["model"] for record in found}]
    apart = "".join(
        f" `{name}`, measured on its own test set alone, flags {alarms[name]:.0f} % of it." for name in alone
    )
    return (
        f"How many of {len(found)} models flag at least {100 * ALWAYS:.0f} % of the images of a kind that they were "
        f"not trained on? {'; '.join(said)}. On its own test set, where every flag is a false alarm, the median of "
        f"these models flags {np.median(of_these):.0f} % of the images, and the worst {max(of_these):.0f} %.{apart}"
    )


def calibration_summary(found: list[dict] | None = None) -> str:
    """On how many test sets the temperature lowered the calibration error, in a sentence; empty without records."""
    found = found if found is not None else records()
    errors = [record["calibration"]["ece"]["test"] for record in found if "calibration" in record]
    if not errors:
        return ""
    lower = sum(error["after"] < error["before"] for error in errors)
    return (
        f"On their own test sets the calibration error is lower with the temperature than without it for {lower} of "
        f"{len(errors)} classifiers (no intervals): a temperature that fits the validation patients need not fit "
        "others."
    )


def _images_of(kind: str) -> str:
    """A kind of image in words: the set of 44 classes by its name in this project."""
    return kind.replace("44 classes, ", "`brain-tumor-44c`'s ")
