"""The evidence of multi-task runs: its records, weights, ablation and tables."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from multitask_images import CLASSES, HEALTHY

from datasets.catalog import DataError
from datasets.splitting import make_split
from datasets.store.images import ImageDataset
from models import MultiTaskUNet
from utils.evaluation import ablation
from utils.evaluation.classification import evaluate, prediction_table
from utils.evaluation.reconstruction import anomaly
from utils.evaluation.screening import screening
from utils.recipes import get_recipe
from utils.report import tables
from utils.report.pooling import pool_folds
from utils.report.records import load_evidence, save_run, write_predictions
from utils.report.weights import find_weights, load_weights
from utils.run import Run
from utils.training.loop import Fit
from utils.training.tasks.multitask import decide


def saved(recipe="s0", seed=0, image_size=64, fold=0, wrong=()):
    """A saved run on a patient fold of the phantom that decides right but for some images: its record."""
    values = {"fold": fold, "recipe": recipe, "seed": seed, "image_size": image_size, "n_filters": 2}
    run = Run(dataset="phantom", split="patient", model="MultiTaskUNet", **values)
    parts = make_split("phantom", "patient", fold)
    truth = ImageDataset("phantom", parts.test, image_size=32).labels.numpy()
    decided = truth.copy()
    decided[list(wrong)] = (decided[list(wrong)] + 1) % 4
    p = np.eye(4)[decided] * 0.9 + 0.025
    table = prediction_table("phantom", parts.test, parts.test_groups, CLASSES, p, decided)
    table["screened"] = table.predicted
    model_args = dict(get_recipe(recipe, "MultiTaskUNet").model_args) | {"width": 2}
    history = {"epoch": [1], "seconds": [1.0], "val_accuracy": [0.5 + 0.1 * seed]}
    if model_args.get("reconstruct", True):
        history |= {"gradient_reconstruction": [2.0], "weight_reconstruction": [10.0], "val_reconstruction": [0.125]}
    history |= {"gradient_classification": [4.0], "weight_classification": [1.0]}
    table["error"] = np.linspace(0, 1, len(table))
    result = evaluate(table, CLASSES, 20) | {"unseen": None, "screening": screening(table, 20)}
    result["anomaly"] = anomaly(table, CLASSES, 20)
    net = MultiTaskUNet(**model_args)
    narrow = get_recipe(recipe, "MultiTaskUNet", epochs=1, model_args=model_args)
    save_run(run, result, table, model=net, recipe=narrow, fit=Fit(pd.DataFrame(history), 1))
    return run, net


def predictions_file(roots, name):
    return roots / "saved_metrics/multitask/phantom" / name / "predictions.csv.gz"


def test_the_rule_decides_in_table_and_metrics_where_the_likeliest_class_is_another(roots):
    rows = make_split("phantom").test[:2]
    p = np.array([[0.2, 0.2, 0.4, 0.2]] * 2)
    truth = ImageDataset("phantom", rows, image_size=32).labels.numpy()
    table = prediction_table(
        "phantom", rows, np.array(["a", "b"]), CLASSES, p, decide(torch.tensor(p), HEALTHY).numpy()
    )
    assert table.predicted.tolist() == ["glioma"] * 2
    assert evaluate(table, CLASSES, 5)["metrics"]["accuracy"]["value"] == (truth == 0).mean()


def test_weights_are_loaded_with_their_card(roots):
    run, net = saved("s0-flat")
    assert run.id == "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0" and run.task == "multitask"
    loaded, x = load_weights(find_weights(run.id)), torch.rand(1, 1, 32, 32)
    assert all(torch.equal(value, net.eval()(x)[name]) for name, value in loaded(x).items())


def test_the_ablation_compares_what_ran_with_the_same_budget_and_seeds(roots):
    saved("s0", 0, wrong=[0, 1, 2]), saved("s0", 1, wrong=[0]), saved("s0", 2)
    saved("s0-flat", 0, wrong=[0, 1]), saved("s0-flat", 1, wrong=[])
    saved("s0-classify", 0), saved("s0-classify", 1), saved("s0-fixed", 0, image_size=128)
    evidence = load_evidence(roots / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    assert {name: list(seeds) for name, seeds in runs.items()} == {
        "s0": [0, 1],
        "s0-classify": [0, 1],
        "s0-flat": [0, 1],
    }, "seed 2 ran for one only, s0-fixed at another size"
    found, n = ablation.compare(runs, evidence.predictions, resamples=50), len(make_split("phantom", "patient", 0).test)
    assert found["s0"]["accuracy"]["value"] == pytest.approx(1 - 2 / n, abs=1e-6)
    assert found["s0-flat"]["difference"]["value"] == pytest.approx(1 / n, abs=1e-6)
    none = {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "by_seed": [0.0, 0.0]}
    assert found["s0"]["difference"] == none
    assert found["s0-flat"]["difference"]["by_seed"] == pytest.approx([1 / n, 1 / n], abs=1e-6)
    assert found["s0-flat"]["validation"] == pytest.approx(0.55)
    file = predictions_file(roots, "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0")
    write_predictions(file, pd.read_csv(file).sample(frac=1, random_state=0))
    assert ablation.compare(runs, evidence.predictions, resamples=50) == found, "the order of the rows does not matter"
    table = tables.ablation_runs(evidence)
    assert table.recipe.tolist() == ["s0", "s0-classify", "s0-flat"] and table.seeds.tolist() == [2, 2, 2]
    differences = table["difference to S0's, points"].tolist()
    assert differences[0] == "" and differences[2].startswith("+")
    (row,) = tables.balance_effects(evidence)[lambda t: t.recipe == "s0"].to_dict("records")
    assert [row[of] for of in ("weight of the reconstruction", "its gradient, unweighted")] == ["10", "0.5"]
    assert row["its gradient, weighted"] == "5"


def test_runs_that_tested_other_images_are_not_compared(roots):
    saved("s0"), saved("s0-flat")
    evidence = load_evidence(roots / "saved_metrics")
    (runs,) = ablation.budgets(evidence.multitask)
    file = predictions_file(roots, "phantom.patient-f0.MultiTaskUNet.s0-flat-n2-64px.seed0")
    write_predictions(file, pd.read_csv(file)[1:])
    with pytest.raises(DataError, match=r"s0-flat.*its test images are not those of the runs beside it"):
        ablation.compare(runs, evidence.predictions)


def test_the_table_shows_s0s_own_method_and_whole_folds_once(roots):
    saved("s0", image_size=128, wrong=[0]), saved("s0", image_size=64), saved("s0-flat", image_size=128)
    table = tables.multitask_runs(load_evidence(roots / "saved_metrics"))
    assert len(table) == 1 and table["split"][0] == "patient fold 0" and table["1-NN"][0] == "–"
    for fold in range(1, 5):
        saved("s0", image_size=128, fold=fold)
    (path,) = pool_folds(roots / "saved_metrics", resamples=20)
    pooled = json.loads(path.read_text())
    table = tables.multitask_runs(load_evidence(roots / "saved_metrics"))
    assert table["split"].tolist() == ["patient, all folds"]
    assert pooled["screening"]["S0"]["accuracy"]["value"] == pytest.approx(1 - 1 / pooled["images"], abs=1e-6)
    parts = [r for r in load_evidence(roots / "saved_metrics").multitask if _is_fold(r)]
    aucs = [r["anomaly"]["tumour"]["value"] for r in parts]
    healthy = [r["per_class"]["notumor"]["images"] for r in parts]
    pairs = [n * (r["images"] - n) for r, n in zip(parts, healthy, strict=True)]
    joined = pooled["anomaly"]["tumour"]
    assert len(aucs) == 5 and joined["value"] == pytest.approx(np.average(aucs, weights=pairs), abs=1e-6)
    assert joined["low"] < joined["value"] < joined["high"]


def _is_fold(record):
    return record["run"]["fold"] is not None and record["id"].endswith("s0-n2.seed0")
