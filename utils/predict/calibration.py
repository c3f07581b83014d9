"""Calibrates a saved model on its validation images, and measures how well it knows what is unlike its training.

Temperature, threshold and `familiarity.safetensors` go to the weights, and the figures to `saved_metrics/calibration/`,
which the tables below show. Nothing is chosen on test images or on images of other kinds.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import binomtest

from datasets import catalog
from datasets.catalog import HEALTHY, DataError
from datasets.store.index import read_manifest
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import outputs
from utils.evaluation.thresholds import calibrated, calibration_error, fit_temperature, threshold_for
from utils.predict.model import BATCH, Prediction, SavedModel
from utils.predict.out_of_distribution import FALSE_ALARMS, FAMILIARITY, Familiarity, strangers
from utils.report.figures.common import PAGE
from utils.report.records import METRICS, VALIDATION, read_predictions, read_record, read_whole, write_record
from utils.report.tables.common import NONE, format_ci
from utils.run import Run, output_root
from utils.saved_models import CARD, read_card, write_card
from utils.training.data import RunData, load_data
from utils.training.environment import git_revision, hardware

MOST = 2000  # training images that features are taken of, four times as many as test images: more change little
ROUNDED = 0.05  # of validation images, whose class bf16 in training changes: 4 of 240 of the network that outlines
AGREES = 2e-3  # difference in the validation metric that rounding and another machine explain, beside one image
TEST = "test set (false alarms)"


def calibrate(model: SavedModel) -> Path:
    """Calibrate `model` on the images that it was validated on; returns the path of the record.

    Raises `DataError`: data set or evidence are not here, or are not those of the model; it was tested on other
    classes than its own.
    """
    trained_on = {name: value for name, value in model.card["trained_on"].items() if name != "data"}
    run = Run(**trained_on | {"task": model.card["task"]})
    folders = [root / "saved_metrics" / run.task / run.dataset / run.id for root in (output_root(), catalog.REPO)]
    folder = next((folder for folder in folders if (folder / METRICS).is_file()), None)
    if not folder:
        raise DataError(f"{folders[-1] / METRICS}: not there; a model is calibrated by the evidence of its own run")
    record = read_record(folder / METRICS)
    data = load_data(run, record["recipe"]["val_fraction"], record["recipe"].get("val_cut", "group"))
    if data.test_classes != data.classes:
        raise DataError(f"{model.name}: tested on other classes, those of '{run.test_on}'; take another split's model")
    _require_same(model, data, record, folder)
    validation = _predict(model, data, data.split.val)
    rng = np.random.default_rng(0)
    train = np.sort(rng.permutation(data.split.train)[:MOST])
    familiarity = Familiarity.fit(_predict(model, data, train).features, validation.features)
    found: dict[str, Any] = {"model": model.name, "command": f"python -m utils.predict.calibrate {model.name}"}
    found |= {"git": git_revision(), "hardware": hardware()}
    found |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "validation_images": len(data.split.val)}
    if model.classes and not model.findings:  # whose thresholds its chapter chose on validation
        found["calibration"] = _calibration(model, data, validation.probabilities)
    test = np.sort(rng.permutation(data.split.test)[: MOST // 4])
    found["familiarity"] = {"false_alarms": FALSE_ALARMS, "training_images": len(train), "strangers": {}}
    found["familiarity"]["test"] = share(familiarity.unlike(_predict(model, data, test, data.split.test_set).features))
    if len(model.preparation.channels) == 1:
        for name, raws in strangers().items():
            seen = model.predict(model.prepare(raws)).features
            found["familiarity"]["strangers"][name] = share(familiarity.unlike(seen))
    if output_root() != catalog.REPO and catalog.REPO in model.folder.parents:  # what is committed stays as it is
        committed, model.folder = model.folder, output_root() / model.folder.relative_to(catalog.REPO)
        shutil.copytree(committed, model.folder, dirs_exist_ok=True)
    note(model, familiarity, found.get("calibration"))
    if run.test_on and model.healthy is not None:
        counts = data.labels["test"].eq(HEALTHY).value_counts()
        rates = {name: record["metrics"][f"tumour_{name}"] for name in ("sensitivity", "specificity")}
        elsewhere = {"data": run.test_on, **rates, "tumours": int(counts[False]), "healthy": int(counts[True])}
        write_card(model.folder, read_card(model.folder / CARD) | {"elsewhere": elsewhere})
    path = output_root() / "saved_metrics/calibration" / f"{model.name}.json"
    write_record(path, found)
    return path


def _require_same(model: SavedModel, data: RunData, record: dict, folder: Path) -> None:
    """Raise `DataError` unless the model scores on these validation images what it scored at the end of its training,
    and they are those whose predictions the run kept, where it kept any."""
    monitor, kept, differ = model.task.monitor, folder / VALIDATION, 0
    metrics = model.task.metrics()
    for batch, found in outputs(model.network, model.task.inputs, data.read(data.split.val), BATCH):
        metrics.update(found, model.task.targets(batch))
    now, most = float(metrics.compute()[monitor]), AGREES
    if kept.is_file() and monitor == "accuracy":
        table = read_predictions(kept)
        differ = len(set(table.path) ^ set(read_manifest(data.run.dataset).path.iloc[data.split.val]))
        recorded, most = (table.label == table.predicted).mean(), ROUNDED
    else:
        recorded = record["training"][f"val_{monitor}"]
    if differ or abs(now - recorded) > most + 1 / len(data.split.val):
        raise DataError(
            f"{model.name}: these {len(data.split.val)} images are not those that it was validated on, or its weights "
            f"are others: {differ} paths differ from {kept}; val_{monitor} is {now:.4f}, {recorded:.4f} in its "
            "record. Bring its data set in as it was, or train it again"
        )


def _predict(model: SavedModel, data: RunData, rows: np.ndarray, dataset: str = "") -> Prediction:
    """Probabilities and features of some rows of the model's data set, or of `dataset`; the masks of so many images
    would not fit into memory."""
    images, places = data.read(rows, dataset, masks=False), np.arange(len(rows))
    found = [model.predict(images.batch(part)["image"]) for part in np.split(places, places[BATCH::BATCH])]
    probabilities = np.concatenate([part.probabilities for part in found]) if model.classes else None
    return Prediction(probabilities, None, np.concatenate([part.features for part in found]))


def _calibration(model: SavedModel, data: RunData, probabilities: np.ndarray) -> dict[str, Any]:
    """Temperature and threshold, and the calibration error before and after on validation and test images."""
    truth, labels = (pd.Index(model.classes).get_indexer(data.labels[part]) for part in ("val", "test"))
    tested = _predict(model, data, data.split.test, data.split.test_set).probabilities
    temperature = fit_temperature(probabilities, truth)
    found: dict[str, Any] = {"temperature": temperature, "ece": {}}
    for name, before, right in (("validation", probabilities, truth), ("test", tested, labels)):
        after = calibration_error(calibrated(before, temperature), right)
        found["ece"][name] = {"before": calibration_error(before, right), "after": after, "images": len(right)}
    if model.healthy is None:
        return found
    scores = [1 - calibrated(each, temperature)[:, model.healthy] for each in (probabilities, tested)]
    threshold = threshold_for(scores[0], truth != model.healthy, data.split.groups[data.split.val])
    found |= threshold.as_record()
    if np.isfinite(threshold.value):
        called = scores[1] >= threshold.value
        sick, groups = labels != model.healthy, data.split.test_groups
        found["at_threshold_on_test"] = {
            "sensitivity": mean_interval(called[sick], groups[sick]) | {"images": int(sick.sum())},
            "specificity": mean_interval(~called[~sick], groups[~sick]) | {"images": int((~sick).sum())},
        }
    return found


def share(flags: Sequence[bool]) -> dict[str, float | int]:
    """The share of images with a flag, with its 95 % CI (Wilson's), which takes images as independent."""
    limits = binomtest(int(sum(flags)), len(flags)).proportion_ci(method="wilson")
    return {"value": float(np.mean(flags)), "low": limits.low, "high": limits.high, "images": len(flags)}


def note_elsewhere(folder: Path, audit: Mapping[str, Any]) -> None:
    """Put on the card of the model in `folder` what the record of an audit has measured of it on other collections,
    all together: `elsewhere`, {data, sensitivity, specificity, tumours, healthy}. Both rates are those of its likeliest
    class, without a threshold; None of too few images.

    Raises `DataError`: a record of another model, a quick one, or one without either rate.
    """
    name = folder.resolve().name
    if audit["model"] != name or audit["quick"]:
        raise DataError(f"{audit['model']}: the audit is of another model than {name}, or a quick one; audit it anew")
    *_, found = audit["new"].values() or [{}]  # where there are several, the last is of all together
    if not (found.get("sensitivity") or found.get("specificity")):
        raise DataError(
            f"{name}: its audit holds no other collection with enough images; bring one in, such as navoneel"
        )
    kept = {"data": ", ".join(data for data in audit["new"] if data != "together")}
    kept |= {key: found[key] for key in ("sensitivity", "specificity", "tumours", "healthy")}
    write_card(folder, read_card(folder / CARD) | {"elsewhere": kept})


def note(model: SavedModel, familiarity: Familiarity, calibration: Mapping[str, Any] | None) -> None:
    """Put what was found into the card of `model` and the familiarity beside it; the weights stay as they are."""
    entry = familiarity.save(model.folder / FAMILIARITY) | {"false_alarms": FALSE_ALARMS}
    card = model.card | {"familiarity": entry} | ({"calibration": dict(calibration)} if calibration else {})
    write_card(model.folder, card)


# ---- what the records say: a table and figures of chapter 9 --------------------------------------------


def records() -> list[dict]:
    """All records in `saved_metrics/calibration/`, the reader's own before the committed ones, by name of the model."""
    roots = (catalog.REPO, output_root())
    paths = {path.name: path for root in roots for path in root.glob("saved_metrics/calibration/*.json")}
    return [read_whole(path) for _, path in sorted(paths.items())]


def calibration_table() -> pd.DataFrame:
    """A row a calibrated classifier: temperature, ECE of the test set in percent, what its threshold gives there."""
    rows = {}
    for record in records():
        if found := record.get("calibration"):
            row, error = {"T": f"{found['temperature']:.2f}"}, found["ece"]["test"]
            row |= {f"ECE {when} %": f"{100 * error[when]:.1f}" for when in ("before", "after")}
            at = found.get("at_threshold_on_test", {})
            row["threshold"] = f"{found['threshold']:.2f}" if at else NONE
            row["specificity on validation"] = f"{100 * found['specificity_on_validation']:.1f}" if at else NONE
            row |= {name: format_ci(at[name]) if at else NONE for name in ("sensitivity", "specificity")}
            rows[record["model"]] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def shares() -> pd.DataFrame:
    """Model × kind of image: the share called unlike the training images, in percent; NaN where it was not measured."""
    found = {}
    for record in records():
        kinds = {TEST: record["familiarity"]["test"]} | record["familiarity"]["strangers"]
        found[record["model"]] = {kind: 100 * entry["value"] for kind, entry in kinds.items()}
    return pd.DataFrame(found).T


def detections() -> Figure:
    """`shares` as a map, model × kind of image: the darker, the more is called unlike the training images."""
    found = shares().dropna(thresh=2)  # measured on more than their own test set
    # as labels, data set and split above network and recipe, without the seed
    labels = [f"{'.'.join(name.split('.')[:2])}\n{'.'.join(name.split('.')[2:-1])}" for name in found.index]
    figure, axis = plt.subplots(figsize=(PAGE, 1.6 + 0.36 * len(found)))
    how = {"annot": True, "fmt": ".0f", "annot_kws": {"size": 8}, "cbar": False, "yticklabels": labels}
    sns.heatmap(found, ax=axis, cmap="Blues", vmin=0, vmax=100, **how)
    axis.set_xticklabels(found.columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.axvline(1, color="black", linewidth=1)  # false alarms before it, detection behind
    axis.set_title("% called unlike the training images")
    return figure


def distances(found: Mapping[str, np.ndarray], threshold: float) -> Figure:
    """Distributions of distances by kind of image, with the threshold."""
    table = pd.concat({f"{kind} ({len(values)})": pd.Series(values) for kind, values in found.items()}, names=["kind"])
    table = table.rename("distance from the training images").reset_index("kind")
    figure, axis = plt.subplots(figsize=(PAGE, 3.2), layout="tight")
    how = {"stat": "percent", "common_norm": False, "element": "step", "log_scale": True}
    sns.histplot(table, x=table.columns[1], hue="kind", bins=45, ax=axis, **how)
    axis.axvline(threshold, color="black", linestyle=":")
    axis.set_ylabel("% of its kind")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")  # names of the places between would lie on each other
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title="the line: the threshold")
    return figure
