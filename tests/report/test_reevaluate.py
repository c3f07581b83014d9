"""Records are computed again from their predictions; what these do not tell stays as it is."""

import json

import numpy as np
import pandas as pd
import pytest

from datasets.splitting import FOLDS
from utils.evaluation.classification import by_patient, evaluate, unseen
from utils.evaluation.outlining import evaluate_outlines
from utils.evaluation.reconstruction import anomaly
from utils.evaluation.thresholds import screening, threshold_for, tumour_or_none, tumour_scores
from utils.report.readme import pool_folds
from utils.report.records import save_run, write_predictions, write_record
from utils.report.reevaluate import main
from utils.run import Run

OUTLINES = Run(dataset="phantom", model="OutlineClassifier", pretrained=True, recipe="name-only")
SCREENS = Run(dataset="phantom", model="MultiTaskUNet", recipe="s0")
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
KEPT = {"threshold": 0.3, "tta": {"gain": {"value": 0.0, "low": 0.0, "high": 0.0}}, "grad_cam": {"all": {"images": 3}}}


def predictions(fold: int = 0) -> pd.DataFrame:
    """80 images of 40 patients, of every kind; what a classifier, a multi-task network and an outline leave of them."""
    rng = np.random.default_rng(fold)
    label = np.repeat(CLASSES, 20)
    p = rng.dirichlet(np.ones(4), 80).round(5) + 2 * (label[:, None] == np.array(CLASSES))
    table = pd.DataFrame({"path": [f"{fold}/{i}.png" for i in range(80)], "label": label})
    table["group"] = [f"{fold}p{i // 2}" for i in range(80)]
    table["predicted"] = np.where(rng.random(80) < 0.8, label, "glioma")
    table = table.assign(**{f"p_{c}": (p[:, k] / 3).round(5) for k, c in enumerate(CLASSES)})
    table = table.assign(screened=table.predicted, error=rng.random(80), patient=table.group, found=0.1)
    tumour = label != "notumor"
    for column in ("tp", "fp", "fn", "pointing", "near", "energy", "area", "near_area"):
        table[column] = np.where(tumour, rng.integers(1, 9, 80), np.nan)
    return table


def everything(run: Run, table: pd.DataFrame, validated: pd.DataFrame) -> dict:
    """All that can be computed again, of one run."""
    threshold = threshold_for(*tumour_scores(validated))
    patients = by_patient(table, CLASSES)
    rest = unseen(table, table.group.str[-1].ne("7").to_numpy())
    return evaluate(table, CLASSES, 20) | {
        "by_patient": evaluate(patients, CLASSES, 20)["metrics"] | {"patients": len(patients)},
        "unseen": rest | {"accuracy": {"value": 1.0, "low": 0.025 ** (1 / rest["groups"]), "high": 1.0}},
        "tumour_or_none": tumour_or_none(table, threshold, 20),
        **({"outline": evaluate_outlines(table)} if run == OUTLINES else {}),
        **({"screening": screening(table, 20), "anomaly": anomaly(table, CLASSES, 20)} if run == SCREENS else {}),
    }


def widened(content: object, path: tuple = ()) -> object:
    """A record as another way to draw intervals would have left it: limits at 0 and 9, except in what is `KEPT`."""
    if not isinstance(content, dict) or path[:1] == ("tta",):
        return content
    if content.keys() == {"value", "low", "high"}:
        return content | ({"low": 1.0, "high": 1.0} if path == ("unseen", "accuracy") else {"low": 0.0, "high": 9.0})
    return {name: widened(inner, (*path, name)) for name, inner in content.items()}


def read(path) -> dict:
    """A record without its seal, which another commit changes, too."""
    return {name: entry for name, entry in json.loads(path.read_text()).items() if name != "seal"}


@pytest.fixture(params=[OUTLINES, SCREENS], ids=lambda run: run.task)
def path(roots, request):
    """The record of one run."""
    table, validated = predictions(), predictions(fold=1)
    return save_run(request.param, everything(request.param, table, validated) | KEPT, table, validation=validated)


def test_metrics_are_those_of_the_predictions_and_all_else_stays(path, capsys):
    before = read(path)
    older = widened(before)
    del older["metrics"]["brier"], older["metrics"]["calibration_slope"]  # of before they were measured
    write_record(path, older)
    assert main([]) == 0
    after = read(path)
    assert after.pop("evaluated") == before["git"], "the commit whose code did it"
    assert list(after) == list(before)
    groups = before["unseen"]["groups"]
    assert after["unseen"]["accuracy"].pop("low") == pytest.approx(0.025 ** (1 / groups), abs=1e-6), "by its groups"
    del before["unseen"]["accuracy"]["low"]
    assert after == before
    assert "1 records evaluated again, 1 of them changed, 0 in values" in capsys.readouterr().out


def test_another_value_is_named_and_the_last_digit_is_none(path, capsys):
    record = read(path)
    accuracy, recall = record["metrics"]["accuracy"], record["per_class"]["glioma"]["recall"]
    accuracy["value"], recall["value"], recall["low"] = round(accuracy["value"] + 1e-6, 6), 0.123, 0.0
    write_record(path, record)
    main([record["id"]])
    said = capsys.readouterr()
    assert f"{record['id']}: other values of per_class.glioma.recall\n" in said.out + said.err
    after = read(path)
    assert after["metrics"]["accuracy"] == accuracy and after["per_class"]["glioma"]["recall"]["value"] != 0.123


def test_a_threshold_is_chosen_again_on_validation_and_there_is_none_without(roots):
    """The record says what another rule chose."""
    table, validated = predictions(), predictions(fold=1)
    path = save_run(OUTLINES, everything(OUTLINES, table, validated), table, validation=validated)
    right = read(path)
    assert right["tumour_or_none"]["threshold"] is None, "ten groups of healthy images"
    validated["group"] = validated.path
    write_predictions(path.with_name("validation.csv.gz"), validated)
    write_record(path, widened(right))
    main([])
    after = read(path)
    assert after["tumour_or_none"] == tumour_or_none(table, threshold_for(*tumour_scores(validated)), 20)
    assert after["tumour_or_none"]["threshold"] in tumour_scores(validated)[0]
    assert after["tumour_or_none"]["specificity_on_validation"] == 0.95
    path.with_name("validation.csv.gz").unlink()
    write_record(path, read(path))
    main([])
    after = read(path)["tumour_or_none"]
    assert after["threshold"] is None and after["sensitivity"]["value"] is None and after["auc"]["value"] is not None


def test_a_multitask_run_whose_threshold_is_unknown_keeps_the_rule_of_s0(roots):
    table = predictions().assign(screened="")
    path = save_run(SCREENS, everything(SCREENS, predictions(), table) | KEPT, table)
    main([])
    record = read(path)
    assert record["threshold"] is None and set(record["screening"]) == {"S0"}


def test_pooled_records_are_pooled_again(roots):
    for fold in range(FOLDS):
        run = Run(dataset="phantom", split="patient", fold=fold).baseline("majority")
        save_run(run, evaluate(predictions(fold), CLASSES, 20), predictions(fold))
    (path,) = pool_folds(roots / "saved_metrics", resamples=20)
    before = read(path)
    write_record(path, widened(before))
    main([before["id"]])
    after = read(path)
    assert after.pop("evaluated") and after == before
    assert pool_folds(roots / "saved_metrics", resamples=20) == [], "it is still made of the same folds"
    next((roots / "saved_metrics").glob("*/*/*patient-f2*/metrics.json")).unlink()
    assert main([before["id"]]) == 1


def test_predictions_of_another_run_are_refused_in_one_line(path, capsys):
    predictions(fold=1).to_csv(path.with_name("predictions.csv.gz"), index=False)
    write_record(path, read(path))
    before = path.read_bytes()
    assert main([]) == 1 and path.read_bytes() == before
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and "its predictions are not those that its record was made of" in said


def test_a_run_without_a_record_is_named(roots, capsys):
    assert main(["phantom.published.Nothing.none.seed0"]) == 1
    assert "has no record of 'phantom.published.Nothing.none.seed0'" in capsys.readouterr().err
