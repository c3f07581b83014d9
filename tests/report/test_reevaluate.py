"""Committed records are computed again from their predictions: the same values and limits; all else stays as it is."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from datasets.catalog import REPO
from utils.report.readme import pool_folds
from utils.report.records import METRICS, POINTING, PREDICTIONS, VALIDATION, write_predictions, write_record
from utils.report.reevaluate import main
from utils.training.environment import git_revision

POOLED = "classification/cheng/cheng.patient.majority.none.seed0"
FINDINGS = "findings/chest-xray14/chest-xray14.patient.SqueezeNet.chexnet-pretrained-64px-findings.seed0"
RECORDS = (
    "classification/brain-tumor-44c/brain-tumor-44c.patient-f0.1-NN.none.seed0",  # classes that no test image shows
    "classification/brain-tumor-mri/brain-tumor-mri.cleaned.majority.none.seed0",  # all wrong where none was seen
    POOLED,  # folds joined: an area of .5
    FINDINGS,
    "localisation/cheng/cheng.patient-f2.OutlineClassifier.from-outline-pretrained.seed0",
    "multitask/brain-tumor-mri/brain-tumor-mri.cleaned.MultiTaskUNet.s0-n8.seed0",  # screened with a threshold
    "multitask/sartaj/sartaj.published.MultiTaskUNet.s0-n8.seed0",  # without: by the rule of S0 alone
    "segmentation/cheng/cheng.slices.AttentionUNet.ours-n16-64px.seed0",
    "segmentation/brats-mini/brats-mini.patient.AttentionUNet.ours-n16-96px-middle.seed0",  # regions
    "transfer/brain-tumor-mri/brain-tumor-mri.external-sartaj.ResNet50-v2.probe-first-pretrained-224px.seed0",
    "transfer/brain-tumor-mri/brain-tumor-mri.patient-f0.SqueezeNet.ours-pretrained.seed0",  # where it looks
    "transfer/brain-tumor-mri/brain-tumor-mri.published.ResNet50-v2.probe-pretrained-224px.seed0",
)
SMALL = "classification/sartaj/sartaj.cleaned.CustomCNN.s2-64px.seed0"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Copies a committed record, and those of its folds, to an output root of its own; returns its path there."""
    monkeypatch.setenv("BRAIN_MRI_OUTPUT", str(tmp_path))

    def copy(record: str) -> Path:
        source, folder = (root / "saved_metrics" / record for root in (REPO, tmp_path))
        for name in (folder.name, *read(source / METRICS).get("pooled", ())):
            shutil.copytree(source.with_name(name), folder.with_name(name))
        return folder / METRICS

    return copy


def read(path: Path) -> dict:
    """A record without its seal, and without the commit that computed it again."""
    return {name: entry for name, entry in json.loads(path.read_text()).items() if name not in ("seal", "evaluated")}


def flat(entries: object, name: str = "") -> dict:
    """Every number of nested entries, by its path."""
    if not isinstance(entries, dict | list):
        return {name: entries}
    items = entries.items() if isinstance(entries, dict) else enumerate(entries)
    return {path: value for key, inner in items for path, value in flat(inner, f"{name}/{key}").items()}


def widened(content: object, path: tuple = ()) -> object:
    """A record as another way to draw intervals would have left it: all limits far out, but no limits of a share of 0
    in images that were not seen."""
    if not isinstance(content, dict) or path in (("tta",), ("grad_cam",)):  # of which predictions say nothing
        return content
    if content.keys() != {"value", "low", "high"}:
        return {name: widened(inner, (*path, name)) for name, inner in content.items()}
    if path == ("unseen", "accuracy"):
        return content if content["value"] else dict.fromkeys(content, 0.0)
    return content | {"low": -999.0, "high": 999.0}


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_what_its_predictions_say_and_all_else_stays(copied, record, tmp_path, capsys):
    path = copied(record)
    files = [file for file in (path, path.with_name(POINTING)) if file.is_file()]
    before, *pointing = map(read, files)
    if record == FINDINGS:  # all 14 take a minute
        before["per_class"] = dict(list(before["per_class"].items())[:2])
    older = widened(before)
    for name in ("brier", "calibration_slope"):  # of before they were measured
        older["metrics"].pop(name, None)
    if "tumour_or_none" in older:  # of another rule, or unknown
        older["tumour_or_none"]["threshold"] = 0.5
    if set(older.get("screening", ())) == {"S0"}:
        older["threshold"] = 0.5
    for file, content in zip(files, [older, *map(widened, pointing)], strict=True):
        write_record(file, content)
    assert main([path.parent.name]) == 0
    assert json.loads(path.read_text())["evaluated"] == git_revision()
    assert f"1 of them changed, {int(record == FINDINGS)} in values" in capsys.readouterr().out
    if record == FINDINGS:
        before["metrics"] = read(path)["metrics"]  # the means of two are others
    for file, wanted in zip(files, [before, *pointing], strict=True):
        found = read(file)
        assert list(found) == list(wanted)
        # Numbers are rounded, and processors differ in the last digit.
        assert flat(found) == pytest.approx(flat(wanted), abs=1.5e-6)
    assert pool_folds(tmp_path / "saved_metrics", resamples=20) == [], "it is still made of the same folds"


def test_another_value_is_named_and_the_last_digit_is_none(copied, capsys):
    path = copied(SMALL)
    record = read(path)
    accuracy, recall = record["metrics"]["accuracy"], record["per_class"]["glioma"]["recall"]
    accuracy["value"], recall["value"], recall["low"] = round(accuracy["value"] + 1e-6, 6), 0.123, 0.0
    write_record(path, record)
    main([])
    said = capsys.readouterr()
    assert f"{record['id']}: other values of per_class.glioma.recall\n" in said.out + said.err
    after = read(path)
    assert after["metrics"]["accuracy"] == accuracy and after["per_class"]["glioma"]["recall"]["value"] != 0.123


def test_without_predictions_of_validation_there_is_no_threshold(copied):
    path = copied("transfer/sartaj/sartaj.published.ResNet50-v2.probe-first-turned-pretrained-224px.seed0")
    record = read(path)
    path.with_name(VALIDATION).unlink()
    write_record(path, record)
    main([])
    after = read(path)["tumour_or_none"]
    assert after["threshold"] is None and after["sensitivity"]["value"] is None and after["auc"]["value"] is not None


def test_a_pooled_record_is_refused_without_one_of_its_folds(copied, capsys):
    path = copied(POOLED)
    next(path.parents[1].glob("*patient-f2*/metrics.json")).unlink()
    assert main([path.parent.name]) == 1
    assert "its fold cheng.patient-f2.majority.none.seed0 has no record" in capsys.readouterr().err


def test_predictions_of_another_run_are_refused_in_one_line(copied, capsys):
    path = copied(SMALL)
    record, table = read(path), pd.read_csv(path.with_name(PREDICTIONS), dtype={"group": str})
    write_predictions(path.with_name(PREDICTIONS), table.assign(predicted=table.predicted.to_numpy()[::-1]))
    write_record(path, record)
    before = path.read_bytes()
    assert main([]) == 1 and path.read_bytes() == before
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and "its predictions are not those that its record was made of" in said


def test_a_run_without_a_record_is_named(copied, capsys):
    assert main(["phantom.published.Nothing.none.seed0"]) == 1
    assert "has no record of 'phantom.published.Nothing.none.seed0'" in capsys.readouterr().err
