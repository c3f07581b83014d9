"""Five folds become one record, made again when a fold is."""

import json

import pandas as pd
import pytest

from datasets.splitting import FOLDS, make_split
from datasets.store.images import ImageDataset
from models import SEGMENTERS
from utils.evaluation.baselines import BASELINES, baseline
from utils.evaluation.classification import evaluate, prediction_table, unseen
from utils.evaluation.segmentation import evaluate_masks, mask_table, predict_masks
from utils.recipes import get_recipe
from utils.report.readme import pool_folds
from utils.report.records import load_evidence, save_run, write_record
from utils.report.tables.segmentation import dice_by_patient
from utils.run import Run
from utils.training.loop import Fit
from utils.training.tasks import Segmentation

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def run_baselines(split, fold=0):
    parts = make_split("phantom", split, fold)
    train_val, test = (ImageDataset("phantom", rows, image_size=64) for rows in (parts.train_val, parts.test))
    for kind in BASELINES:
        table = prediction_table("phantom", parts.test, parts.test_groups, CLASSES, baseline(kind, train_val, test))
        result = evaluate(table, CLASSES, 20) | {"unseen": unseen(table, parts.seen)}
        save_run(Run(dataset="phantom", split=split, fold=fold).baseline(kind), result, table)


def test_folds_are_pooled_once_all_are_there_again_when_one_was_run_again_and_not_without_one(roots):
    def record_of(name):
        return folder / "classification/phantom" / name / "metrics.json"

    folder = roots / "saved_metrics"
    for fold in range(FOLDS):
        run_baselines("patient", fold)
    run_baselines("published")
    last = record_of("phantom.patient-f4.1-NN.none.seed0")
    kept = last.rename(last.with_suffix(".away"))
    (pooled,) = pool_folds(folder, resamples=20)
    assert pooled.parent.name == "phantom.patient.majority.none.seed0"
    majority = json.loads(pooled.read_text())["metrics"]
    assert majority["macro_auc"]["value"] == majority["tumour_auc"]["value"] == 0.5, "folds are ranked by themselves"
    kept.rename(last)
    (path,) = pool_folds(folder, resamples=20)
    record = json.loads(path.read_text())
    assert record["id"] == path.parent.name == "phantom.patient.1-NN.none.seed0"
    names = [f"phantom.patient-f{fold}.1-NN.none.seed0" for fold in range(FOLDS)]
    everyone = pd.concat([pd.read_csv(record_of(name).with_name("predictions.csv.gz")) for name in names])
    assert everyone.path.is_unique and record["images"] == len(everyone)
    right = (everyone.label == everyone.predicted).mean()
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    assert min(record["folds"]) <= right <= max(record["folds"]) and list(record["pooled"]) == names
    assert pool_folds(folder, resamples=20) == [], "nothing is computed twice"
    one = record_of("phantom.patient-f2.majority.none.seed0")
    write_record(one, json.loads(one.read_text()) | {"finished": "later"})
    assert pool_folds(folder, resamples=20) == [pooled], "a fold was run again"
    one.unlink()
    assert pool_folds(folder, resamples=20) == [] and not pooled.exists()


def test_unseen_is_the_rest_of_the_test_set():
    table = pd.DataFrame({"label": list("aab"), "predicted": list("abb"), "group": ["x", "y", "z"]})
    found = unseen(table, (table.group == "x").to_numpy())
    assert found["accuracy"]["value"] == 0.5 and found["classes"] == {"a": 1, "b": 1} and found["images"] == 2
    assert unseen(table, table.group.eq("none").to_numpy()) is unseen(table, table.group.ne("none").to_numpy()) is None


def segmented(fold, epochs):
    """A saved segmentation run of an untrained network on a patient fold: its record."""
    run = Run(dataset="phantom", split="patient", fold=fold, model="ClassicUNet", image_size=32, n_filters=4)
    parts, net = make_split("phantom", "patient", fold), SEGMENTERS["ClassicUNet"](n_filters=4)
    data = ImageDataset("phantom", parts.test, image_size=32, channels="all", masks=True)
    predictions = predict_masks(net, Segmentation(3), data)
    table = mask_table("phantom", parts.test, parts.test_groups, predictions)
    result = evaluate_masks(table, ["NCR", "ED", "ET"], ["WT", "TC"], 20)
    recipe = get_recipe("s2", "ClassicUNet", model_args={"n_filters": 4})
    fit = Fit(pd.DataFrame({"epoch": range(1, epochs + 1), "seconds": 2.5 / epochs, "val_dice": 0.25}), epochs)
    return json.loads(save_run(run, result, table, model=net, recipe=recipe, fit=fit).read_text())


def test_folds_of_a_segmentation_are_pooled_by_patient(roots):
    """Tables show one number of epochs, that of the longest training; the record has all of them."""
    records = [segmented(fold, epochs) for fold, epochs in enumerate((2, 3, 1, 3, 2))]
    assert records[0]["training"]["val_dice"] == 0.25 and records[0]["published"] is None
    (path,) = pool_folds(roots / "saved_metrics", resamples=20)
    record = json.loads(path.read_text())
    assert record["training"] == {"epochs": 3, "seconds": pytest.approx(12.5), "epochs_by_fold": [2, 3, 1, 3, 2]}
    assert record["id"] == "phantom.patient.ClassicUNet.s2-n4-32px.seed0" and record["task"] == "segmentation"
    assert record["patients"] == 24 and record["folds"] == [r["metrics"]["dice"]["value"] for r in records]
    total = sum(r["metrics"]["dice"]["value"] * r["patients"] for r in records) / 24
    assert record["metrics"]["dice"]["value"] == pytest.approx(total, abs=2e-6)  # of rounded numbers
    table = dice_by_patient(load_evidence(roots / "saved_metrics"))
    assert table.tested.tolist() == ["patient, all folds"], "the folds stand in it, not beside it"
