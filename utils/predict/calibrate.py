"""Calibrates a saved model on its validation images, and measures how well it knows what is unlike its training.

`python -m utils.predict.calibrate MODEL` writes temperature, threshold and `familiarity.safetensors` beside the
weights, and the figures to `saved_metrics/calibration/`. Nothing is chosen on test images or on strangers.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.catalog import REPO, DataError
from datasets.reading import read_table
from datasets.store.index import read_manifest
from datasets.store.preprocess import RawImage
from utils.commands import errors_in_one_line
from utils.evaluation.intervals import mean_interval
from utils.evaluation.predict import outputs
from utils.evaluation.thresholds import SPECIFICITY, calibrated, calibration_error, fit_temperature, threshold_for
from utils.files import write_atomically
from utils.predict import out_of_distribution, saved_models
from utils.predict.familiarity import FALSE_ALARMS, FAMILIARITY, Familiarity
from utils.predict.model import BATCH, Prediction, SavedModel
from utils.predict.out_of_distribution import share
from utils.report.records import HISTORY, METRICS, PREDICTIONS, VALIDATION, write_record
from utils.report.validate import read_history, read_predictions, read_record
from utils.report.weights import CARD, completed
from utils.run import Run, output_root
from utils.training.data import RunData, load_data
from utils.training.environment import git_revision, hardware

MOST = 2000  # training images that features are taken of, four times as many as test images: more change little
ROUNDED = 0.05  # of validation images, whose class bf16 in training changes: 4 of 240 of the network that outlines
AGREES = 2e-3  # difference in the validation metric that rounding and another machine explain, beside one image


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a model in saved_models/")
    parser.add_argument(
        "--parts",
        type=Path,
        metavar="FILE.csv",
        help="path,set of every image that it was trained (train) and validated (val) on, for a model of earlier folds",
    )
    parser.add_argument(
        "--strangers",
        nargs="*",
        default=[],
        metavar="NAME=PATTERN",
        help="image files below the data folder, beside photographs and noise, whose detection is measured",
    )
    args = parser.parse_args(argv)
    model, *others = saved_models.open_models(args.model)
    if others:
        raise DataError(f"{args.model}: {1 + len(others)} models; calibrate one after the other")
    named = dict(_pair(text) for text in args.strangers)
    path = calibrate(model, args.parts, named)
    print(path.read_text())
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise DataError(f"--strangers {text}: a name and a pattern of files are wanted, such as 'X-rays=folder/*.png'")
    return name, pattern


def calibrate(model: SavedModel, parts: Path | None = None, named: Mapping[str, str] | None = None) -> Path:
    """Calibrate `model` on the images that it was validated on; returns the path of the record.

    Args:
        parts: see the command line; named: name → pattern of files, in addition to `out_of_distribution.GENERATED`.

    Raises:
        DataError: the data set or the run's evidence is not here, these are not the images that the model was
            validated on, by its own record, or it was tested on another data set.
    """
    files = {name: out_of_distribution.named(pattern) for name, pattern in (named or {}).items()}
    run, record, folder = evidence_of(model)
    if run.test_on:
        raise DataError(
            f"{model.name}: tested on '{run.test_on}'; what calibration is worth is measured on test images of the "
            "model's own data set, so take a model of another split"
        )
    data, rows = _rows(model, run, record, parts)
    _require_same(model, data, rows["val"], record, folder)
    rng = np.random.default_rng(0)
    train = np.sort(rng.permutation(rows["train"])[:MOST])
    validation, training = _predict(model, data, rows["val"]), _predict(model, data, train)
    found: dict[str, Any] = {"model": model.name, "command": _command(model, parts, named or {})}
    found |= {"git": git_revision(), "hardware": hardware()}
    found |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "validation_images": len(rows["val"])}
    if model.classes and not model.findings:  # whose thresholds its chapter chose on validation
        truth = data.read(rows["val"]).labels.numpy()
        tested = _tested(model, data, folder)
        found["calibration"] = _calibration(model, validation.probabilities, truth, *tested)
    familiarity = Familiarity.fit(training.features, validation.features)
    test = np.sort(rng.permutation(rows["test"])[: MOST // 4])
    found["familiarity"] = {
        "false_alarms": FALSE_ALARMS,
        "training_images": len(train),
        "test": _alarms(familiarity, [_predict(model, data, test).features]),
        "strangers": _strangers(model, familiarity, files) if len(model.preparation.channels) == 1 else {},
    }
    note(model, familiarity, found.get("calibration"), completed(model.card, record))
    path = output_root() / "saved_metrics/calibration" / f"{model.name}.json"
    write_record(path, found)
    return path


def evidence_of(model: SavedModel) -> tuple[Run, dict, Path]:
    trained_on = {name: value for name, value in model.card["trained_on"].items() if name != "data"}
    run = Run(**trained_on | {"task": model.card["task"]})
    folder = output_root() / "saved_metrics" / run.task / run.dataset / run.id
    if not (folder / METRICS).is_file():
        raise DataError(f"{folder / METRICS}: not there; a model is calibrated by the evidence of its own run")
    return run, read_record(folder / METRICS), folder


def _rows(model: SavedModel, run: Run, record: dict, parts: Path | None) -> tuple[RunData, dict[str, np.ndarray]]:
    """The run's data, and the manifest rows of its training, validation and test set."""
    if parts is None and run.split == "patient" and saved_models.on_old_folds(model.card):
        raise DataError(f"{model.name}: trained on earlier folds; name its own images with --parts")
    data = load_data(run, record["recipe"]["val_fraction"])
    if parts is None:
        return data, {name: getattr(data.split, name) for name in ("train", "val", "test")}
    table = read_table(parts, needs=["path", "set"], dtype=str)
    place = {path: row for row, path in enumerate(read_manifest(run.dataset).path)}
    if missing := table.path[~table.path.isin(place)].tolist():
        raise DataError(f"{parts}: {len(missing)} images are not in '{run.dataset}', first {missing[0]}")
    rows = {name: np.array([place[path] for path in table.path[table.set == name]], int) for name in ("train", "val")}
    if empty := [name for name, of_set in rows.items() if not len(of_set)]:
        raise DataError(f"{parts}: names no image of the set '{empty[0]}'")
    rows["test"] = np.setdiff1d(np.arange(len(place)), np.concatenate([rows["train"], rows["val"]]))
    return data, rows


def _require_same(model: SavedModel, data: RunData, rows: np.ndarray, record: dict, folder: Path) -> None:
    """Raise `DataError` unless these are the images whose predictions the run kept, and the model says so much the same
    of them; where it kept none, unless the model scores on them what it scored at the end of its training."""
    if (folder / VALIDATION).is_file():
        _require_kept(model, data, rows, folder / VALIDATION)
        return
    name = f"val_{model.task.monitor}"
    history = read_history(folder / HISTORY)
    recorded = float(history.loc[history.epoch == record["training"]["epoch_kept"], name].iloc[0])
    metrics = model.task.metrics()
    for batch, found in outputs(model.network, model.task.inputs, data.read(rows), BATCH):
        targets = model.task.targets(batch)
        metrics.update(found, targets)
    now = float(metrics.compute()[model.task.monitor])
    if abs(now - recorded) > AGREES + 1 / len(rows):
        raise DataError(
            f"{model.name}: {name} is {now:.4f} on these {len(rows)} images, {recorded:.4f} in its record: they are "
            "not those that it was validated on. Name its own images with --parts"
        )


def _require_kept(model: SavedModel, data: RunData, rows: np.ndarray, path: Path) -> None:
    kept, paths = read_predictions(path).set_index("path"), read_manifest(data.run.dataset).path.iloc[rows]
    if other := set(kept.index).symmetric_difference(paths):
        raise DataError(
            f"{model.name}: {len(other)} images are here or in {path} alone, first {min(other)}: they are not those "
            "that it was validated on. Name its own images with --parts"
        )
    now = np.array(data.classes)[_predict(model, data, rows).probabilities.argmax(1)]
    changed = (now != kept.predicted.loc[paths].to_numpy()).mean()
    if changed > ROUNDED:
        raise DataError(f"{model.name}: {100 * changed:.0f} % of its answers are others than in {path}: other weights?")


def _predict(model: SavedModel, data: RunData, rows: np.ndarray) -> Prediction:
    images = data.read(rows, masks=False)
    found = [
        model.predict(images.batch(part)["image"])
        for part in np.split(np.arange(len(rows)), range(BATCH, len(rows), BATCH))
    ]
    probabilities = np.concatenate([part.probabilities for part in found]) if model.classes else None
    return Prediction(probabilities, None, np.concatenate([part.features for part in found]))


def _tested(model: SavedModel, data: RunData, folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Probabilities of the images that the run was tested on, and its table of them. They are computed again: tables of
    earlier versions hold five digits, too few for a calibration error."""
    table, paths = read_predictions(folder / PREDICTIONS), read_manifest(data.run.dataset).path
    place = {path: row for row, path in enumerate(paths)}
    if missing := table.path[~table.path.isin(place)].tolist():
        raise DataError(f"{folder / PREDICTIONS}: {len(missing)} images are not in '{data.run.dataset}'")
    return _predict(model, data, table.path.map(place).to_numpy()).probabilities, table


def _calibration(
    model: SavedModel, probabilities: np.ndarray, truth: np.ndarray, tested: np.ndarray, table: pd.DataFrame
) -> dict[str, Any]:
    """Temperature and threshold, and the calibration error before and after on validation and test images."""
    temperature = fit_temperature(probabilities, truth)
    after = calibrated(probabilities, temperature)
    found: dict[str, Any] = {
        "temperature": temperature,
        "ece": {"validation": _before_after(probabilities, after, truth)},
    }
    labels = table.label.map({name: k for k, name in enumerate(model.classes)}).to_numpy()
    tested_after = calibrated(tested, temperature)
    found["ece"]["test"] = _before_after(tested, tested_after, labels)
    threshold = np.nan if model.healthy is None else threshold_for(after, truth, model.healthy)
    if np.isfinite(threshold):  # validation images with a tumour and without one
        called, sick = 1 - tested_after[:, model.healthy] >= threshold, labels != model.healthy
        found |= {"threshold": threshold, "specificity_on_validation": SPECIFICITY}
        groups = table.group.to_numpy()
        found["at_threshold_on_test"] = {
            "sensitivity": mean_interval(called[sick], groups[sick]) | {"images": int(sick.sum())},
            "specificity": mean_interval(~called[~sick], groups[~sick]) | {"images": int((~sick).sum())},
        }
    return found


def _before_after(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict[str, float | int]:
    errors = {"before": calibration_error(before, truth), "after": calibration_error(after, truth)}
    return errors | {"images": len(truth)}


def _alarms(familiarity: Familiarity, features: Iterable[np.ndarray]) -> dict[str, float | int]:
    unlike = np.concatenate([familiarity.unlike(part) for part in features])
    return share(int(unlike.sum()), len(unlike))


def _strangers(model: SavedModel, familiarity: Familiarity, files: Mapping[str, Sequence[Path]]) -> dict[str, dict]:
    """The share of each kind of strangers that is called unlike the training images."""

    def features(raws: list[RawImage]) -> np.ndarray:
        return model.predict(model.prepare(raws)).features

    found = {name: _alarms(familiarity, [features(make())]) for name, make in out_of_distribution.GENERATED.items()}
    return found | {name: _alarms(familiarity, map(features, out_of_distribution.read(p))) for name, p in files.items()}


def note(
    model: SavedModel, familiarity: Familiarity, calibration: Mapping[str, Any] | None, card: Mapping | None = None
) -> None:
    """Put what was found into the card of `model`, and the familiarity beside it; the weights stay as they are.

    Args:
        calibration: `temperature`, `threshold` and figures of a classifier; None for a segmenter.
        card: what the card says otherwise; None: what it says now.
    """
    entry = familiarity.save(model.folder / FAMILIARITY) | {"false_alarms": FALSE_ALARMS}
    whole = dict(card or model.card) | {"familiarity": entry}
    whole |= {"calibration": dict(calibration)} if calibration else {}
    write_atomically(model.folder / CARD, json.dumps(whole, indent=1) + "\n")


def _command(model: SavedModel, parts: Path | None, named: Mapping[str, str]) -> str:
    """The command that makes the record again."""
    words = ["python -m utils.predict.calibrate", model.name]
    inside = parts and parts.resolve().is_relative_to(REPO)
    words += ["--parts", str(parts.resolve().relative_to(REPO) if inside else parts.name)] if parts else []
    words += ["--strangers", *(shlex.quote(f"{name}={pattern}") for name, pattern in named.items())] if named else []
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
