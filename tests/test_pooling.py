"""Five folds become one record, made again when a fold is; the tables show what the records hold."""

import json

import pandas as pd
import pytest

from datasets.protocols import FOLDS, make_split
from datasets.store import PackedImages
from utils import tables
from utils.baselines import BASELINES, baseline
from utils.evaluation import evaluate, prediction_table, unseen
from utils.pooling import pool_folds
from utils.runs import Run, load_runs, save_run

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def run_baselines(split, fold=0):
    parts = make_split("phantom", split, fold)
    known, test = (PackedImages("phantom", rows, image_size=64) for rows in (parts.known, parts.test))
    for kind in BASELINES:
        table = prediction_table("phantom", parts.test, parts.test_groups, CLASSES, baseline(kind, known, test))
        result = evaluate(table, CLASSES, 20) | {"unseen": unseen(table, parts.seen, 20)}
        save_run(Run("phantom", split, fold).baseline(kind), result, table)


@pytest.fixture
def folds(roots):
    for fold in range(FOLDS):
        run_baselines("patient", fold)
    run_baselines("published")
    return roots / "saved_metrics"


def test_folds_are_pooled_once_all_are_there(folds):
    last = folds / "phantom.patient-f4.1-NN.none.seed0.json"
    kept = last.rename(last.with_suffix(".away"))
    assert [path.name for path in pool_folds(folds, resamples=20)] == ["phantom.patient.majority.none.seed0.json"]
    kept.rename(last)
    (path,) = pool_folds(folds, resamples=20)
    record = json.loads(path.read_text())
    assert path.name == "phantom.patient.1-NN.none.seed0.json" and record["id"] == path.stem
    tables = [pd.read_csv(folds / f"phantom.patient-f{f}.1-NN.none.seed0.predictions.csv") for f in range(FOLDS)]
    everyone = pd.concat(tables)
    assert everyone.path.is_unique and record["images"] == len(everyone)
    right = (everyone.label == everyone.predicted).mean()
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    assert min(record["folds"]) <= right <= max(record["folds"]) and len(record["pooled"]) == FOLDS
    assert pool_folds(folds, resamples=20) == [], "nothing is computed twice"


def test_a_fold_that_was_run_again_is_pooled_again(folds):
    pool_folds(folds, resamples=20)
    one = folds / "phantom.patient-f2.majority.none.seed0.json"
    one.write_text(json.dumps(json.loads(one.read_text()) | {"finished": "later"}))
    assert [path.name for path in pool_folds(folds, resamples=20)] == ["phantom.patient.majority.none.seed0.json"]


def test_the_headline_sets_published_against_patients(folds):
    pool_folds(folds, resamples=20)
    records = load_runs(folds)
    table = tables.headline(records)
    assert table[["data set", "model"]].to_numpy().tolist() == [["phantom", "1-NN"], ["phantom", "majority"]]
    nearest = table.iloc[0]
    published = tables.chosen(records, dataset="phantom", model="1-NN", split="published")
    assert nearest["published split"] == tables.interval(published["metrics"]["accuracy"])
    assert nearest["its unseen part"] == tables.interval(published["unseen"]["accuracy"])
    assert nearest["lost, points"].startswith("-"), "remembering helps less by patient"
    assert tables.cleaning(records).empty and tables.external(records).empty
    shown = tables.views(records, "phantom")
    first_fold = tables.chosen(records, dataset="phantom", model="1-NN", split="patient")
    first_fold = tables.interval(first_fold["metrics"]["accuracy"])
    assert shown.to_numpy().tolist() == [["1-NN", "stored", nearest["published split"], first_fold]]


def test_unseen_is_the_rest_of_the_test_part(roots):
    table = pd.DataFrame({"label": list("aab"), "predicted": list("abb"), "group": ["x", "y", "z"]})
    found = unseen(table, (table.group == "x").to_numpy(), resamples=20)
    assert found["accuracy"]["value"] == 0.5 and found["classes"] == {"a": 1, "b": 1} and found["images"] == 2
    assert unseen(table, table.group.eq("none").to_numpy()) is None
    assert unseen(table, table.group.ne("none").to_numpy()) is None
